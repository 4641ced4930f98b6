"""Is what models imagine made of the right steps, and may only those act who are there, as they may?"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from mg2l_kalei.buffers.windows import Moments, draw_moments, jointly_observed, window
from mg2l_kalei.world_models.base import Starts, Surroundings, starts_at
from mg2l_kalei.world_models.imagined import ImaginedRows
from mg2l_kalei.world_models.marie import Marie, MarieConfig
from mg2l_kalei.world_models.marie.imagination import DreamedRows
from mg2l_kalei.world_models.marie.network import Outcome
from mg2l_kalei.world_models.scores import open_loop_scores
from mg2l_kalei.world_models.team_network import Predicted, Seen
from tests.small_systems import generator
from tests.training.trainers import make_trainer, tiny
from tests.world_models import swirl

MOMENTS = Moments(torch.tensor([3, 8, 8]), torch.tensor([0, 4, 17]))
ACTION = torch.zeros(3, 2, 1)
DISCRETE = jointly_observed(swirl.SPEC)._replace(is_discrete=True, action_dim=3)
SURE = 9.0  # a logit


class Recorder(torch.nn.Module):
    """Predicts that nothing changes but who is there and what is legal, and keeps what it was shown."""

    n_members, n_actions = 1, 3

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Seen] = []

    def forward(self, seen: Seen) -> Predicted:
        self.shown.append(seen)
        goes_on = torch.full(seen.alive.shape[1:3], SURE)
        there = torch.full(seen.alive.shape[1:], SURE)
        if len(self.shown) == 1:
            there[..., 1] = -SURE  # the second agent dies in the first step, and is back by the second
        legal = torch.full((*there.shape, 3), -SURE)
        legal[..., 2] = SURE
        legal[:, 0] = -SURE + torch.arange(3)  # in the first row none is likely: the likeliest is
        return Predicted(seen.obs[-1], torch.ones_like(there), goes_on, there, legal)

    def bounded(self, obs: Tensor) -> Tensor:
        return obs


def discrete_starts(burn_in: int) -> Starts:
    """Moments of trials, as if actions had been numbers."""
    starts = starts_at(swirl.replayed(), MOMENTS, burn_in)
    return starts._replace(history=starts.history._replace(action=torch.zeros(burn_in, 3, 2, dtype=torch.int64)))


def test_who_has_gone_stays_away_unpaid_and_likely_actions_alone_are_legal() -> None:
    starts = discrete_starts(0)
    env = ImaginedRows(Recorder(), starts, ACTION[:, 0], generator(), DISCRETE, horizon=5, max_spread=0.0)  # type: ignore[arg-type]
    env.reset(starts.task)
    results = [env.step(torch.zeros(3, 2, dtype=torch.int64)) for _ in range(3)]
    for result in results:
        assert result.alive.tolist() == [[True, False]] * 3
        assert result.legal is not None and result.legal.tolist() == [[[False, False, True]] * 2] * 3
        assert result.state.unflatten(-1, (2, -1))[:, 1].eq(0).all(), "who has gone is seen by nobody"
    assert [result.reward.tolist() for result in results] == [[[1, 1]] * 3, [[1, 0]] * 3, [[1, 0]] * 3]


def test_tokens_too_leave_the_dead_away_and_end_as_is_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Marie(MarieConfig(width=16, n_layers=1), Surroundings(DISCRETE, 1, generator()))
    starts = discrete_starts(1)
    said: list[int] = []

    def outcome(read: Tensor) -> Outcome:
        said.append(1)
        there = torch.full((3, 2), SURE)
        there[:, 1] = -SURE if len(said) == 1 else SURE
        goes_on = torch.full((3, 2), SURE)
        goes_on[:, 1] = -100.0  # what the dead say is not asked from the second step on
        legal = torch.zeros(3, 2, 3, 2)
        legal[..., 0] = SURE
        legal[..., 1, 1] = 2 * SURE
        return Outcome(torch.zeros(3, 2, 128), goes_on, there, legal)

    monkeypatch.setattr(model.network.dynamics, "outcome", outcome)
    monkeypatch.setattr(model.network, "reward", lambda predicted: torch.ones(3, 2))
    for ends_on_time in (True, False):
        said.clear()
        spec = DISCRETE._replace(ends_on_time=ends_on_time)
        env = DreamedRows(model.network, starts, ACTION[:, 0], generator(2), spec)
        env.reset(starts.task)
        results = [env.step(torch.zeros(3, 2, dtype=torch.int64)) for _ in range(2)]
        assert [result.alive.tolist() for result in results] == [[[True, False]] * 3] * 2
        assert [result.reward.tolist() for result in results] == [[[1, 1]] * 3, [[1, 0]] * 3]
        for result in results:
            assert result.legal is not None and result.legal.tolist() == [[[False, True, False]] * 2] * 3
        assert [bool(result.terminated.all()) for result in results] == [not ends_on_time, False]


def test_a_prediction_sees_the_steps_before_with_the_actions_taken_in_them() -> None:
    steps, _ = swirl.trials(64, 20)
    starts, network = starts_at(swirl.replayed(), MOMENTS, 2), Recorder()
    network.n_actions = 0
    env = ImaginedRows(network, starts, ACTION[:, 0], generator(), swirl.SPEC, horizon=5, max_spread=0.0)  # type: ignore[arg-type]
    env.reset(starts.task)
    done = [torch.full((3, 2, 1), 0.1), torch.full((3, 2, 1), 0.2)]
    for action in done:
        env.step(action)
    first, second = network.shown
    assert first.is_known[:, 0].T.tolist() == [[False, False, True], [True] * 3, [True] * 3]  # the first has no past
    assert second.is_known[:, 0].T.tolist() == [[False, True, True], [True] * 3, [True] * 3]
    for row, (trial, step) in enumerate(zip(*(x.tolist() for x in MOMENTS), strict=True)):
        if not step:
            continue
        lived = steps.obs[step - 2 : step + 1, trial]
        assert torch.equal(first.obs[:, 0, row], lived) and torch.equal(second.obs[:2, 0, row], lived[1:])
        acted = steps.action[step - 2 : step, trial]
        assert torch.equal(first.action[:, 0, row], torch.cat([acted, done[0][:1]]))
        assert torch.equal(second.action[:, 0, row], torch.cat([acted[1:], done[0][:1], done[1][:1]]))


def test_several_steps_are_learned_each_from_the_prediction_before(monkeypatch: pytest.MonkeyPatch) -> None:
    model, replay = swirl.small_model(unroll=3, burn_in=1), swirl.replayed()
    moments = draw_moments(torch.arange(len(replay)), 10, 6, generator())
    around = window(replay, moments, before=1, after=3)
    calls: list[tuple[Seen, Predicted]] = []
    forward = model.network.forward

    def watched(seen: Seen) -> Predicted:
        calls.append((seen, forward(seen)))
        return calls[-1][1]

    monkeypatch.setattr(model.network, "forward", watched)
    model._loss(around, torch.zeros(6, 1))
    assert len(calls) == 3
    for (before, predicted), (seen, _) in pairwise(calls):
        assert torch.equal(seen.obs[-1], predicted.next_obs) and torch.equal(seen.obs[0], before.obs[-1])
    actions = around.steps.action.unflatten(1, (model.config.members, -1))
    assert all(torch.equal(seen.action, actions[first : first + 2]) for first, (seen, _) in enumerate(calls))


def test_what_changes_by_the_same_in_every_step_goes_on_so_and_what_never_does_has_no_error() -> None:
    """A clock, beside an entry that is always the same."""
    model = swirl.small_model()
    obs = torch.zeros(1, 3, 4, 2, 2)  # (W, E, B, N, obs_dim)
    model.network.obs.update(torch.rand(50, 2) * torch.tensor([1.0, 0.0]))
    model.network.change.update(torch.tensor([0.05, 0.0]).expand(50, 2))
    alive = torch.ones(1, 3, 4, 2, dtype=torch.bool)
    seen = Seen(obs, torch.zeros(1, 3, 4, 2, 1), alive, alive[..., 0], torch.zeros(3, 4, 1))
    with torch.no_grad():
        after = model.network(seen).next_obs
    torch.testing.assert_close(after, torch.tensor([0.05, 0.0]).expand_as(after))
    replay, slots = swirl.replayed(16), torch.arange(16)
    for field in ("obs", "next_obs"):
        replay._trials[field].fill_(1.0)
    found = open_loop_scores(model, replay, (slots[:8], slots[8:]), swirl.oracle(), generator())
    assert all(torch.as_tensor(value).isfinite() for value in found.values())
    assert float(found["world_model/copy_error_1"]) == 0


def test_sequences_of_tokens_keep_episodes_apart() -> None:
    model = Marie(
        MarieConfig(width=16, n_layers=1, context_steps=8), Surroundings(jointly_observed(swirl.SPEC), 1, generator())
    )
    replay = swirl.replayed(8, n_steps=26)  # 20 steps, and 6 of another episode
    found = set()
    for seed in range(20):
        blocks, _ = model.sequences(replay, torch.arange(8), torch.zeros(8, 1), generator(seed))
        found |= {tuple(row) for row in blocks.episode.T.tolist()}
    assert (0,) * 8 in found and (0,) * 4 + (1,) * 4 in found
    assert all(sorted(row) == list(row) and set(row) <= {0, 1} and row[0] == 0 for row in found)


# --- in a run ---------------------------------------------------------------------------------------------------------


def test_updates_come_at_their_rate_and_errors_are_measured_on_the_newest_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny("mappo", "toy-corners", "world_model=continuous", model_updates=0.3, capacity=10)
    trainer = make_trainer(config)
    made: list[int] = []
    scored: list[tuple[list[int], list[int]]] = []
    assert trainer.system.world_model is not None and trainer.replay is not None
    learn = trainer.system.world_model.learn

    def watched(*given: Any, n_updates: int, **others: Any) -> Any:
        made.append(n_updates)
        return learn(*given, n_updates=n_updates, **others)

    def scores(model: Any, replay: Any, trials: tuple[Tensor, Tensor], *others: Any) -> dict[str, Tensor]:
        scored.append((sorted(trials[0].tolist()), sorted(trials[1].tolist())))
        return {}

    monkeypatch.setattr(trainer.system.world_model, "learn", watched)
    monkeypatch.setattr("mg2l_kalei.training.imagination.open_loop_scores", scores)
    for _ in range(4):
        trainer.iterate()
    assert [sum(made[: k + 1]) for k in range(4)] == [int(0.3 * 4 * 6 * (k + 1)) for k in range(4)]
    numbers = [(range(first), range(first, first + 4)) for first in (4, 8, 12)]  # of trials, four in each iteration
    for (past, fresh), (earlier, newest) in zip(scored, numbers, strict=True):
        assert fresh == sorted(n % 10 for n in newest)
        assert past == sorted(n % 10 for n in list(earlier)[-6:])


def test_rows_are_imagined_in_the_task_of_their_own_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tiny("mappo", "toy-corners", "world_model=continuous", "encoder=oracle"))
    model, given = trainer.system.world_model, []
    assert model is not None and trainer.replay is not None
    imagine = model.imagine

    def watched(starts: Any, latents: Tensor, *others: Any) -> Any:
        given.append((starts, latents))
        return imagine(starts, latents, *others)

    monkeypatch.setattr(model, "imagine", watched)
    for _ in range(3):
        trainer.iterate()
    assert any(len(starts.task.unique()) > 1 for starts, _ in given)
    told: dict[int, Tensor] = {}
    for starts, latents in given:
        for task, latent in zip(starts.task.tolist(), latents, strict=True):
            assert torch.equal(told.setdefault(task, latent), latent)
    assert len({tuple(latent.tolist()) for latent in told.values()}) == len(told) > 1
