"""What a world model learns without any reinforcement learning: errors on trials of random play that it has not seen.

``python -m benchmarks.world_model_alone --algo=marie --env=toy-corners encoder=oracle trials=512 updates=1200``:
settings as of ``train.py``, and of this script how many trials of training tasks are learned from (``trials``), how
many others are predicted (``held_out``), of held-out tasks too where the family has such, how many updates are made
(``updates``), and after how many the errors are told (``every``); ``out=FILE`` adds these to a file, in lines of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

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
SHOWN = ("error", "copy_error", "linear_error", "reward_r2", "linear_reward_r2")


def main(words: list[str]) -> None:
    given = dict(word.split("=", 1) for word in words if word.split("=")[0] in (*OWN, "out"))
    own = OWN | {name: int(value) for name, value in given.items() if name in OWN}
    config = load([word for word in words if word.split("=")[0] not in given], SCHEMA, CONFIG_DIR).config
    torch.set_num_threads(1)
    system = build(config, torch.device("cpu"))
    model, family = system.world_model, system.family
    if model is None:
        raise SystemExit("world_model=none: there is nothing to learn")
    generator = torch_generator(config.seed, "play")
    splits = [split for split in ("train", "test") if split in family.splits]
    n_of = [own["trials"], *[own["held_out"]] * len(splits)]  # learned from, and predicted, of each split
    parts = zip(("train", *splits), n_of, strict=True)
    task = torch.cat([family.task_ids(split)[torch.arange(n) % len(family.task_ids(split))] for split, n in parts])
    env, team = family.make(len(task), system.device, generator), Team(system.learner, system.encoder, generator)
    with torch.no_grad():
        steps = with_joint_state(collect(env, team, task, system.trial_steps, explore=Clock(0, 0)).steps)
    first = Step._make(None if x is None else x[:, : own["trials"]] for x in steps)
    everything = replay_of(system, steps, task, OBSERVED)
    learned = replay_of(system, first, task[: own["trials"]], OBSERVED)
    past, *others = torch.arange(len(task)).split(n_of)
    started = time.process_time()
    for done in range(own["every"], own["updates"] + 1, own["every"]):
        model.learn(learned, system.encoder, Clock(0, 0), n_updates=own["every"], generator=generator)
        seconds = time.process_time() - started
        for split, slots in zip(splits, others, strict=True):
            scores = open_loop_scores(model, everything, (past, slots), system.encoder, torch_generator(0, "scores"))
            found = {name.removeprefix("world_model/"): float(value) for name, value in scores.items()}
            print(f"{done} updates, {seconds:.0f} CPU s, {split} tasks", flush=True)
            for name in SHOWN:
                told = [f"{value:.3f}" for key, value in found.items() if key.removeprefix(f"{name}_").isdigit()]
                print(f"  {name:18} {'  '.join(told)}", flush=True)
            if "out" in given:
                line = {
                    "words": [word for word in words if not word.startswith("out=")],
                    "seed": config.seed,
                    "updates": done,
                    "split": split,
                    "cpu_s": seconds,
                    **found,
                }
                with Path(given["out"]).open("a") as file:
                    file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
