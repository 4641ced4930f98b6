"""What an encoder learns without any reinforcement learning: trials of a team that explores, then its own loss alone.

``python benchmarks/encoder_alone.py --algo=mg2l --env=mpe-spread encoder.kl_coef=1e-3 trials=200 updates=3000``:
settings as of ``train.py``, and of this script how many trials of each training task are kept (``trials``) and how many
updates are made (``updates``), at the early learning rate. Every so many of them (``every``): its loss, InfoNCE and the
KL divergence where it has them, and a linear probe of each z^i alone after 10, 50 and all transitions of trials that
the encoder was not trained on (``held_out`` of each task), worst agent; and of contexts of many transitions that are
drawn from all those trials of a task.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from mg2l_kalei.acting.collector import Held, Team, collect
from mg2l_kalei.buffers.contexts import ContextSampler
from mg2l_kalei.buffers.trials import ReplayConfig, TrialReplay
from mg2l_kalei.config import load
from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.evaluation.probe import probe_accuracy
from mg2l_kalei.seeding import torch_generator
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, System, build
from mg2l_kalei.training.task_inference import InferenceTrainer
from mg2l_kalei.types import Clock, Rollout, Step, Transition

N_MIXED = 100  # contexts of each task
SHOWN = ("loss", "info_nce", "kl")
OWN = {"trials": 100, "held_out": 100, "updates": 3000, "every": 1000}


def explored(system: System, n_trials: int, stream: str) -> Rollout:
    """``n_trials`` of each training task, by the untrained team on latents of the prior, one for each trial."""
    family, cpu = system.family, torch.device("cpu")
    task = family.task_ids("train").repeat(n_trials)
    generator = torch_generator(system.config.seed, stream)
    held = torch.randn(len(task), 1, system.encoder.local_dim, generator=generator).expand(-1, family.spec.n_agents, -1)
    team = Team(system.learner, system.encoder, generator)
    with torch.no_grad():
        env = family.make(len(task), cpu, generator)
        return collect(env, team, task, system.trial_steps, explore=Clock(0, 0), held=Held(held, None))


def probes(encoder: TaskEncoder, trials: Rollout, n_tasks: int) -> list[float]:
    """Of the worst agent, after 10, 50 and all transitions."""
    with torch.no_grad():
        local = encoder.latents(trials._replace(contexts=None)).local  # (T + 1, B, N, dim)
    rows = local.unflatten(1, (-1, n_tasks)).transpose(1, 2).numpy()  # (T + 1, n_tasks, n_trials, N, dim)
    moments = [min(t, len(rows) - 1) for t in (10, 50, len(rows))]
    return [min(probe_accuracy(rows[t, :, :, n]) for n in range(rows.shape[3])) for t in moments]


def mixed_probe(encoder: TaskEncoder, contexts: ContextSampler, tasks: Tensor, seed: int) -> float:
    """Of the worst agent, in contexts that each are drawn from all trials of their task."""
    with torch.no_grad():
        drawn = contexts.sample(torch_generator(seed, "mixed"), tasks.repeat_interleave(N_MIXED))
        local = encoder.encode(drawn).local.unflatten(0, (-1, N_MIXED)).numpy()  # (n_tasks, N_MIXED, N, dim)
    return min(probe_accuracy(local[:, :, n]) for n in range(local.shape[2]))


def replay_of(system: System, steps: Step, task: Tensor, fields: Sequence[str]) -> TrialReplay:
    """A replay that holds these trials, steps (T, B, ...) and task (B,), and no others."""
    config = ReplayConfig(capacity=len(task))
    replay = TrialReplay(config, system.spec, system.trial_steps, fields, system.device)
    replay.add(steps, task)
    return replay


def main(words: list[str]) -> None:
    own = OWN | {k: int(v) for k, v in (word.split("=") for word in words if word.split("=")[0] in OWN)}
    config = load([word for word in words if word.split("=")[0] not in OWN], SCHEMA, CONFIG_DIR).config
    torch.set_num_threads(1)
    system = build(config, torch.device("cpu"))
    encoder, n_tasks = system.encoder, len(system.family.task_ids("train"))
    seen, unseen = explored(system, own["trials"], "seen"), explored(system, own["held_out"], "unseen")
    encoder.fit_normaliser(seen.transition)
    updates = dataclasses.replace(config.context, n_early_updates=own["every"], n_early_iterations=1)
    contexts = ContextSampler(
        updates, replay_of(system, *seen[:2], Transition._fields), n_consecutive=encoder.n_consecutive
    )
    trainer = InferenceTrainer(encoder, contexts, torch_generator(config.seed, "contexts"))
    of_all = dataclasses.replace(config.context, scope="task", length=system.trial_steps)
    mixed = ContextSampler(
        of_all, replay_of(system, *unseen[:2], Transition._fields), n_consecutive=encoder.n_consecutive
    )
    started = time.perf_counter()
    for done in range(own["every"], own["updates"] + 1, own["every"]):
        found = {name.removeprefix("encoder/"): float(value) for name, value in trainer.update(0).items()}
        told = "  ".join(f"{name} {value:.3f}" for name, value in found.items() if name in SHOWN)
        shown = " ".join(f"{value:.2f}" for value in probes(encoder, unseen, n_tasks))
        of_mixed = mixed_probe(encoder, mixed, system.family.task_ids("train"), config.seed)
        spent = time.perf_counter() - started
        print(f"{done} updates, {spent:.0f} s: {told}  probe {shown}, of mixed contexts {of_mixed:.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
