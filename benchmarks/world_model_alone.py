"""What a world model learns without any reinforcement learning: errors on trials of random play that it has not seen.

``python -m benchmarks.world_model_alone --algo=marie --env=toy-corners encoder=oracle trials=512 updates=1200``:
settings as of ``train.py``, and of this script how many trials are learned from (``trials``), how many others are
predicted (``held_out``), how many updates are made (``updates``), and after how many the errors are told (``every``).
"""

from __future__ import annotations

import sys
import time

import torch

from benchmarks.encoder_alone import replay_of
from mg2l_kalei.acting.collector import Team, collect
from mg2l_kalei.buffers.windows import OBSERVED, with_joint_state
from mg2l_kalei.config import load
from mg2l_kalei.seeding import torch_generator
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, build
from mg2l_kalei.types import Clock, Step
from mg2l_kalei.world_models.scores import open_loop_scores

OWN = {"trials": 512, "held_out": 128, "updates": 1200, "every": 400}


def main(words: list[str]) -> None:
    own = OWN | {k: int(v) for k, v in (word.split("=") for word in words if word.split("=")[0] in OWN)}
    config = load([word for word in words if word.split("=")[0] not in OWN], SCHEMA, CONFIG_DIR).config
    torch.set_num_threads(1)
    system = build(config, torch.device("cpu"))
    model, family = system.world_model, system.family
    if model is None:
        raise SystemExit("world_model=none: there is nothing to learn")
    generator = torch_generator(config.seed, "play")
    n_trials = own["trials"] + own["held_out"]
    task = family.task_ids("train")[torch.arange(n_trials) % len(family.task_ids("train"))]
    env, team = family.make(n_trials, system.device, generator), Team(system.learner, system.encoder, generator)
    with torch.no_grad():
        steps = with_joint_state(collect(env, team, task, system.trial_steps, explore=Clock(0, 0)).steps)
    first = Step._make(None if x is None else x[:, : own["trials"]] for x in steps)
    everything = replay_of(system, steps, task, OBSERVED)
    learned = replay_of(system, first, task[: own["trials"]], OBSERVED)
    slots = torch.arange(n_trials).tensor_split([own["trials"]])
    started = time.process_time()
    for done in range(own["every"], own["updates"] + 1, own["every"]):
        model.learn(learned, system.encoder, Clock(0, 0), n_updates=own["every"], generator=generator)
        seconds = time.process_time() - started
        scores = open_loop_scores(model, everything, (slots[0], slots[1]), system.encoder, torch_generator(0, "scores"))
        print(f"{done} updates, {seconds:.0f} CPU s", flush=True)
        for name in ("error", "copy_error", "linear_error", "reward_r2", "linear_reward_r2"):
            told = [f"{float(v):.3f}" for k, v in scores.items() if k.removeprefix(f"world_model/{name}_").isdigit()]
            print(f"  {name:18} {'  '.join(told)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
