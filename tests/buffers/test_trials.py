"""Does the replay keep the fields asked for of the last trials, give them back whole, and refuse to be too large?"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from envs.core import EnvSpec
from mg2l_kalei.buffers.trials import GIB, ReplayConfig, TrialReplay, layouts, refuse_too_large, replay_size
from mg2l_kalei.types import Step, Transition
from tests.small_systems import CONTINUOUS, SPECS, generator, random_rollout, with_steps

T = 5
CPU = torch.device("cpu")
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def make_replay(spec: EnvSpec = CONTINUOUS, capacity: int = 8, fields: tuple[str, ...] = Step._fields) -> TrialReplay:
    return TrialReplay(ReplayConfig(capacity=capacity), spec, T, fields, CPU)


def whole_steps(spec: EnvSpec, n_rows: int, seed: int = 0) -> Step:
    """Noise in all fields of a step, also those that random rollouts leave alike."""
    steps, stream = random_rollout(spec, T, n_rows, seed=seed).steps, generator(seed)
    N = spec.n_agents

    def some(*shape: int) -> Tensor:
        return torch.rand(T, n_rows, *shape, generator=stream) < 0.5

    legal, next_legal = (some(N, spec.action_dim) if spec.is_discrete else None for _ in range(2))
    return steps._replace(
        terminated=some(), truncated=some(), alive=some(N), next_alive=some(N), legal=legal, next_legal=next_legal
    )


def fill(replay: TrialReplay, n: int, first: int = 0) -> None:
    """Add n trials, by twos, whose rewards are their numbers, from ``first`` on; trial i is of task i % 3."""
    for number in range(first, first + n, 2):
        trials = torch.arange(number, min(number + 2, first + n))
        rollout = random_rollout(CONTINUOUS, T, len(trials), seed=number)
        reward = trials.float()[None, :, None].expand(T, -1, CONTINUOUS.n_agents)
        replay.add(with_steps(rollout, reward=reward).steps, trials % 3)


@every_spec
def test_what_is_kept_of_a_trial_is_what_it_was(spec: EnvSpec) -> None:
    replay, steps = make_replay(spec), whole_steps(spec, 4)
    replay.add(steps, torch.arange(4))
    step, trial = torch.meshgrid(torch.arange(T), torch.arange(4), indexing="ij")
    kept = replay.steps(trial, step)
    for name in Step._fields:
        expected = getattr(steps, name)
        if expected is None and not spec.is_discrete:
            assert name not in kept, name  # nothing to keep
        elif expected is None:
            assert kept[name].all(), name  # no mask: all is legal
        else:
            assert torch.equal(kept[name], expected) and kept[name].dtype == expected.dtype, name
    assert all(torch.equal(a, b) for a, b in zip(replay.transitions(trial, step), steps.transition, strict=True))
    assert torch.equal(replay.transitions(trial[0], step[2]).obs, steps.obs[2])


@every_spec
def test_only_the_fields_asked_for_are_kept(spec: EnvSpec) -> None:
    replay = make_replay(spec, fields=("reward", "obs"))
    replay.add(whole_steps(spec, 4), torch.arange(4))
    assert list(replay.steps(torch.tensor(0), torch.tensor(0))) == ["obs", "reward"]
    assert list(replay.since(0)[1]) == ["task", "obs", "reward"]


@pytest.mark.parametrize("n_trials", [3, 8, 9, 13, 16, 21], ids=lambda n: f"{n} of 8")
def test_trials_since_any_number_can_be_put_back(n_trials: int) -> None:
    saved = make_replay()
    fill(saved, n_trials)
    oldest = max(0, n_trials - 8)
    for since in (0, oldest, oldest + 1, n_trials - 1, n_trials):
        first, trials = saved.since(since)
        assert first == max(since, oldest)
        assert trials["reward"][:, 0, 0].tolist() == list(range(first, n_trials))
        assert trials["task"].tolist() == [number % 3 for number in range(first, n_trials)]
        restored = make_replay()
        restored.restore(first, trials)
        assert restored.n_added == n_trials
        again = restored.since(first)
        assert again[0] == first
        assert all(torch.equal(trials[name], again[1][name]) for name in trials)


def test_a_replay_that_was_put_back_in_parts_goes_on_as_the_saved_one() -> None:
    """What was there, and what has come since; over the ring's turn, into a replay that held other trials."""
    saved, restored = make_replay(), make_replay()
    fill(saved, 6)
    parts = [saved.since(0)]
    fill(saved, 5, first=6)
    parts.append(saved.since(6))
    fill(restored, 8, first=50)
    for first, trials in parts:
        restored.restore(first, trials)
    for replay in (saved, restored):
        fill(replay, 3, first=11)
    assert saved.n_added == restored.n_added == 14 and len(restored) == 8
    assert torch.equal(saved.task, restored.task)
    slot, step = torch.meshgrid(torch.arange(8), torch.arange(T), indexing="ij")
    ours, theirs = saved.steps(slot, step), restored.steps(slot, step)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_of_more_trials_than_it_holds_the_last_are_put_back() -> None:
    wide, narrow = make_replay(capacity=16), make_replay(capacity=4)
    fill(wide, 11)
    narrow.restore(*wide.since(0))
    first, trials = narrow.since(0)
    assert first == 7 and trials["reward"][:, 0, 0].tolist() == [7, 8, 9, 10]


def test_trials_with_other_fields_or_shapes_are_refused() -> None:
    replay = make_replay(fields=("obs", "reward"))
    fill(replay, 2)
    first, trials = replay.since(0)
    with pytest.raises(ValueError, match=r"stored trials have obs \(5, 3, 4\), task \(\); expected obs .*, reward"):
        replay.restore(first, {name: field for name, field in trials.items() if name != "reward"})
    with pytest.raises(ValueError, match=r"reward \(4, 3\).*; expected .*reward \(5, 3\)"):
        replay.restore(first, {**trials, "reward": trials["reward"][:, :4]})
    replay.restore(first, trials)


@every_spec
def test_its_size_is_that_of_what_it_holds(spec: EnvSpec) -> None:
    config, replay = ReplayConfig(capacity=6), make_replay(spec, capacity=6)
    fields = (field for name, field in replay.since(0)[1].items() if name != "task")
    held = sum(field[:0].element_size() * field.shape[1:].numel() * 6 for field in fields)
    assert replay_size(config, spec, T, Step._fields) == held / GIB
    assert set(layouts(spec, T, Transition._fields)) == set(Transition._fields)


def test_a_replay_that_is_too_large_is_refused_with_what_fits() -> None:
    per_trial = replay_size(ReplayConfig(capacity=2), CONTINUOUS, T, Transition._fields) / 2
    config = ReplayConfig(capacity=10_000, max_gib=1000 * per_trial * 1.0001)
    expected = rf"replay\.capacity=10000 trials of {T} steps take .* GiB, more than replay\.max_gib=.*=1000 fits"
    with pytest.raises(ValueError, match=expected):
        refuse_too_large(config, CONTINUOUS, T, Transition._fields)
    refuse_too_large(ReplayConfig(capacity=1000, max_gib=config.max_gib), CONTINUOUS, T, Transition._fields)
    with pytest.raises(ValueError, match=r"replay\.capacity=1001 "):
        refuse_too_large(ReplayConfig(capacity=1001, max_gib=config.max_gib), CONTINUOUS, T, Transition._fields)
    refuse_too_large(config, CONTINUOUS, T, ())  # nobody asks for anything
