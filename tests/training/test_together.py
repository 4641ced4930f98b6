"""Are two processes on halves of the data one process on all of it: gradients, statistics, and what is never finite?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from mg2l_kalei.buffers.trials import TrialReplay
from mg2l_kalei.config import RunConfig
from mg2l_kalei.disk.finite import NonFiniteError, check_finite
from mg2l_kalei.learners.base import Experience
from mg2l_kalei.losses.inference import Gaussian
from mg2l_kalei.processes import Processes, joined
from mg2l_kalei.training.phases import Iteration
from mg2l_kalei.training.system import System, build
from mg2l_kalei.types import Clock, Contexts, Rollout, Transition
from tests.torchrun import end, start
from tests.training.trainers import RECIPES, make_trainer, tiny, toy_of

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {"n_minibatches": 1, "batch": 8, "explore_rows": 2, "updates_per_episode": 0.05}
ALL_STEPS = {
    "batch": 48,
    "updates_per_step": 0.01,
    "policy_delay": 1,
    "target_noise": 0.0,
}  # in one update without noise


class Data(NamedTuple):
    rollout: Rollout  # of 8 rows
    contexts: Contexts | None  # 8 of them; None: the encoder does not learn


class Recording(Processes):
    """Keeps the gradients that steps are made with."""

    gradients: list[Tensor]

    def mean_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        of = list(parameters)
        super().mean_gradients(of)
        self.gradients += [p.grad.clone() for p in of if p.grad is not None]


def config_of(algo: str) -> RunConfig:
    """Of a recipe, and words after it."""
    name, *words = algo.split()
    config = dataclasses.replace(tiny(name, toy_of(name), *words, **SETTINGS), n_rows=8)
    if config.kinds["learner"] != "matd3":
        return config
    return dataclasses.replace(config, learner=dataclasses.replace(config.learner, **ALL_STEPS))


def make_data(algo: str, departures: bool) -> Data:
    trainer = make_trainer(config_of(algo))
    iteration = Iteration(trainer.clock)
    for name in ("explore", "collect"):
        if name in trainer.phases:
            trainer.phases[name].run(iteration)
    assert iteration.rollout is not None
    inference = trainer.shop.inference
    contexts = None if inference is None else inference.contexts.sample(inference.generator)
    data = Data(iteration.rollout, contexts)
    if departures:
        for alive in [data.rollout.steps.alive, *([data.contexts.transition.alive] if data.contexts else [])]:
            alive.copy_(torch.rand(alive.shape, generator=torch.Generator().manual_seed(0)) < 0.6)
            alive[:, : len(alive[0]) // 2] = True  # one half has all, the other has not
    return data


def part_of(data: Data, processes: Processes) -> Data:
    """The process's half of the rows, and of the pairs of contexts."""

    def rows(x: Any) -> Any:  # (T, B, ...), or (B,)
        if isinstance(x, Tensor):
            return x.chunk(processes.size, dim=min(1, x.dim() - 1))[processes.rank]
        return None if x is None else x._make(map(rows, x))

    rollout = rows(data.rollout)
    if data.contexts is None:
        return Data(rollout, None)
    pairs = torch.arange(len(data.contexts.task)).view(2, processes.size, -1)[:, processes.rank].flatten()
    transition = data.contexts.transition
    mine = Contexts(Transition._make(x[:, pairs] for x in transition), data.contexts.task[pairs])
    return Data(rollout, mine)


def learnt(algo: str, data: Data, processes: Recording) -> list[Tensor]:
    """Gradients of the encoder's and of the learner's first steps, and all statistics."""
    processes.gradients = []
    system = build(config_of(algo), CPU, processes=processes)
    rollout, contexts = part_of(data, processes)
    if contexts is not None:
        system.encoder.fit_normaliser(rollout.transition)
        loss, _ = system.encoder.loss(contexts, torch.Generator())
        loss.backward()
        processes.mean_gradients(system.encoder.parameters())
    experience = Experience(rollout, replay_of(system, rollout), system.encoder)
    system.learner.update(experience, Clock(0, 100, 1e9), torch.Generator().manual_seed(0))
    networks = (system.encoder, *system.learner.networks.values())
    return [*processes.gradients, *(buffer for network in networks for buffer in network.buffers())]


def replay_of(system: System, rollout: Rollout) -> TrialReplay | None:
    """What learners that look at past trials find there: the rollout, and nothing else."""
    if not system.learner.replays:
        return None
    replay = TrialReplay(system.config.replay, system.family.spec, system.trial_steps, system.replayed_fields, CPU)
    replay.add(rollout.steps, rollout.task)
    return replay


def assert_two_are_one(algo: str, tmp_path: Path, departures: bool = False) -> None:
    data = make_data(algo, departures)
    whole = learnt(algo, data, Recording())

    def compare() -> int:
        with joined(on_gpu=False) as processes:
            halves = learnt(algo, data, Recording(*processes))
        assert len(halves) == len(whole)
        for mine, alone in zip(halves, whole, strict=True):
            torch.testing.assert_close(mine, alone, rtol=1e-6, atol=1e-6)
        return 0

    assert end(start(2, compare, tmp_path / "log")) == [0, 0], (tmp_path / "log-0").read_text()


@pytest.fixture(autouse=True)
def same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever draws a sample: processes draw others."""
    monkeypatch.setattr(Gaussian, "sample", lambda self, generator: self.mean + self.log_std.exp())


def test_two_processes_make_the_gradients_of_one_where_agents_leave(tmp_path: Path) -> None:
    assert_two_are_one("mg2l_kalei", tmp_path, departures=True)


@pytest.mark.parametrize("algo", ["mg2l_kalei_qmix learner.time_limits=terminal", "mg2l_kalei_matd3"])
def test_two_processes_make_the_gradients_of_one_where_values_train_encoders(algo: str, tmp_path: Path) -> None:
    assert_two_are_one(f"{algo} learner.trains_encoder=true encoder.critic_kl_coef=0.1", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("departures", [False, True])
@pytest.mark.parametrize("algo", RECIPES)
def test_two_processes_make_the_gradients_of_one(algo: str, departures: bool, tmp_path: Path) -> None:
    assert_two_are_one(algo, tmp_path, departures)


def test_what_is_not_finite_in_one_process_stops_all(tmp_path: Path) -> None:
    def check() -> int:
        with joined(on_gpu=False) as processes:
            x = torch.tensor([torch.nan if processes.rank == 1 else 1.0])
            try:
                check_finite({"x": x}, tmp_path / "batch", processes=processes)
            except NonFiniteError as error:
                print(error)
                return 3
        return 0

    assert end(start(2, check, tmp_path / "log")) == [3, 3]
    assert "another process" in (tmp_path / "log-0").read_text()
    assert "x has 1 non-finite values" in (tmp_path / "log-1").read_text()
