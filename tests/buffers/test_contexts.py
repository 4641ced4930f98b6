"""Are contexts of the right tasks and trials, the latest ones, and do their steps know what came before them?"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from mg2l_kalei.buffers.contexts import ContextConfig, ContextSampler, ReplayTooSmall, balanced_draw
from mg2l_kalei.buffers.trials import ReplayConfig, TrialReplay
from mg2l_kalei.types import Contexts, Transition
from tests.small_systems import CONTINUOUS, DISCRETE, as_steps, generator, random_rollout

T = 5
CPU = torch.device("cpu")


def make_sampler(n_consecutive: int = 1, capacity: int = 8, **settings: Any) -> ContextSampler:
    replay = TrialReplay(ReplayConfig(capacity=capacity), CONTINUOUS, T, Transition._fields, CPU)
    config = ContextConfig(**{"batch": 8, "length": 3, **settings})
    return ContextSampler(config, replay, n_consecutive=n_consecutive)


def numbered(trials: list[int]) -> Transition:
    """Trials whose entries all say ``100 * trial + step``; the action is its negative. Episodes are of 4 steps."""
    mark = 100.0 * torch.tensor(trials).float() + torch.arange(T).unsqueeze(-1)  # (T, B)
    N, spec = CONTINUOUS.n_agents, CONTINUOUS
    wide = mark[:, :, None, None].expand(T, len(trials), N, spec.obs_dim)
    alive = torch.ones(T, len(trials), N, dtype=torch.bool)
    return Transition(wide, -wide[..., : spec.action_dim], wide[..., 0], wide + 0.5, mark % 100 % 4 == 0, alive)


def fill(sampler: ContextSampler, tasks: list[int], first: int = 0) -> None:
    """Add a trial for each task, numbered from ``first`` on."""
    sampler.replay.add(as_steps(numbered(list(range(first, first + len(tasks))))), torch.tensor(tasks))


def marks(contexts: Contexts) -> Tensor:
    """``100 * trial + step`` of each transition: (K, R) int64."""
    return contexts.transition.reward[..., 0].long()


def held(sampler: ContextSampler, task: int, n: int = 200) -> set[int]:
    """The trials that contexts of a task come from."""
    return set((marks(sampler.sample(generator(), torch.full((n,), task))) // 100).flatten().tolist())


def test_the_oldest_trials_are_overwritten_first() -> None:
    sampler = make_sampler(capacity=8)
    fill(sampler, [0] * 6)
    assert len(sampler.replay) == 6 and held(sampler, 0) == set(range(6))
    fill(sampler, [0] * 5, first=6)
    assert len(sampler.replay) == 8 and held(sampler, 0) == set(range(3, 11))
    fill(sampler, [0] * 8, first=11)
    assert len(sampler.replay) == 8 and held(sampler, 0) == set(range(11, 19))


def test_of_more_trials_than_it_holds_the_last_are_kept() -> None:
    sampler = make_sampler(capacity=4)
    fill(sampler, [0] * 11)
    assert len(sampler.replay) == 4 and held(sampler, 0) == {7, 8, 9, 10}


def test_an_overwritten_trials_task_goes_with_it() -> None:
    sampler = make_sampler(capacity=4)
    fill(sampler, [0, 1, 0, 1])
    fill(sampler, [2, 2], first=4)
    assert held(sampler, 2) == {4, 5} and held(sampler, 0) == {2} and held(sampler, 1) == {3}


def test_all_parts_of_a_transition_belong_together() -> None:
    sampler = make_sampler()
    fill(sampler, [0, 1, 2, 1])
    transition = sampler.sample(generator()).transition
    mark = transition.reward[..., None]
    assert (transition.obs == mark).all() and (transition.action == -mark).all()
    assert (transition.next_obs == mark + 0.5).all()


def test_what_is_stored_is_a_copy() -> None:
    sampler, trials = make_sampler(), as_steps(Transition(*(field.clone() for field in numbered([0, 1]))))
    sampler.replay.add(trials, torch.tensor([0, 0]))
    for field in trials.transition:
        field.fill_(-1e6)
    assert held(sampler, 0) == {0, 1}


def test_contexts_are_of_the_tasks_asked_for() -> None:
    sampler, tasks = make_sampler(), torch.tensor([2, 0, 0, 1, 2])
    fill(sampler, [0, 1, 2, 2, 1, 0])
    contexts = sampler.sample(generator(), tasks)
    assert torch.equal(contexts.task, tasks)
    task_of_trial = torch.tensor([0, 1, 2, 2, 1, 0])
    assert (task_of_trial[marks(contexts) // 100] == tasks).all()


@pytest.mark.parametrize(("scope", "from_one_trial"), [("trial", True), ("task", False)])
def test_a_context_comes_from_one_trial_or_from_all_of_its_task(scope: str, from_one_trial: bool) -> None:
    sampler = make_sampler(scope=scope)
    fill(sampler, [0, 1] * 4)
    trials = marks(sampler.sample(generator(), torch.arange(100) % 2)) // 100  # (K, R)
    assert (trials == trials[0]).all(0).float().mean() == pytest.approx(1.0 if from_one_trial else 1 / 16, abs=0.05)
    assert (trials % 2 == torch.arange(100) % 2).all()


def test_a_context_within_a_trial_repeats_no_transition_and_any_step_may_come_first() -> None:
    sampler = make_sampler(length=T)
    fill(sampler, [0, 1])
    steps = marks(sampler.sample(generator(), torch.zeros(200, dtype=torch.int64))) % 100  # (T, R)
    assert (steps.sort(0).values == torch.arange(T).unsqueeze(-1)).all()
    assert set(steps[0].tolist()) == set(range(T))


def test_contexts_may_be_longer_than_trials() -> None:
    sampler = make_sampler(length=3 * T)
    fill(sampler, [0, 1])
    steps = marks(sampler.sample(generator())) % 100
    assert steps.shape == (3 * T, 8) and set(steps.flatten().tolist()) == set(range(T))


@pytest.mark.parametrize("scope", ["trial", "task"])
@pytest.mark.parametrize("length", [4, 5, 3 * T])
def test_steps_are_drawn_in_a_row_where_they_are_looked_at_together(scope: str, length: int) -> None:
    sampler = make_sampler(n_consecutive=2, scope=scope, length=length)
    fill(sampler, [0, 1] * 4)
    drawn = marks(sampler.sample(generator(), torch.arange(200) % 2))  # (K, R): 100 * trial + step
    assert drawn.shape == (length, 200)
    pairs = length // 2 * 2
    assert (drawn[1:pairs:2] == drawn[:pairs:2] + 1).all()
    assert set((drawn[::2] % 100).flatten().tolist()) == set(range(T - 1))


def test_a_balanced_draw_pairs_contexts_of_a_task_half_a_batch_apart_but_not_the_same_ones() -> None:
    sampler = make_sampler(batch=24)
    fill(sampler, [0, 0, 0, 1, 1, 2, 2, 2])  # tasks in unequal shares
    contexts = sampler.sample(generator())
    assert torch.equal(contexts.task[:12], contexts.task[12:])
    assert contexts.task.bincount().tolist() == [8, 8, 8]
    assert (marks(contexts)[:, :12] != marks(contexts)[:, 12:]).any()


@pytest.mark.parametrize("n_trials", [2, 3])
def test_contexts_that_pair_up_are_of_different_trials(n_trials: int) -> None:
    sampler = make_sampler(batch=200)
    fill(sampler, [0] * n_trials)
    first, second = (marks(sampler.sample(generator())) // 100)[0].chunk(2)
    assert (first != second).all()
    assert set(first.tolist()) == set(second.tolist()) == set(range(n_trials))


def test_a_task_with_a_single_trial_pairs_with_itself() -> None:
    sampler = make_sampler()
    fill(sampler, [0, 1, 1])
    contexts = sampler.sample(generator())
    assert (marks(contexts) // 100)[:, contexts.task == 0].unique().tolist() == [0]


def test_tasks_that_were_never_tried_are_not_drawn() -> None:
    sampler = make_sampler()
    fill(sampler, [0, 2, 2])
    assert set(sampler.sample(generator()).task.tolist()) == {0, 2}


@pytest.mark.parametrize("n", [1, 3, 4, 7, 12])
def test_a_balanced_draw_takes_each_item_as_often_as_the_others_or_once_more(n: int) -> None:
    items = torch.tensor([5, 7, 9])
    drawn = balanced_draw(items, n, generator())
    counts = torch.stack([(drawn == item).sum() for item in items])
    assert counts.sum() == n and counts.max() - counts.min() <= 1
    orders = {tuple(balanced_draw(items, 3, generator(seed)).tolist()) for seed in range(50)}
    assert len(orders) == 6


def test_draws_come_from_the_given_generator_alone() -> None:
    sampler = make_sampler()
    fill(sampler, [0, 1, 2, 0])
    first, again, other = (marks(sampler.sample(generator(seed))) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("n_trials", [3, 11], ids=["filling", "full"])
def test_a_restored_buffer_goes_on_as_the_saved_one(n_trials: int) -> None:
    saved, restored = make_sampler(), make_sampler()
    fill(restored, [2] * 8, first=50)
    fill(saved, [i % 3 for i in range(n_trials)])
    restored.replay.restore(*copy.deepcopy(saved.replay.since(0)))
    for sampler in (saved, restored):
        fill(sampler, [1, 0], first=20)
    assert len(restored.replay) == len(saved.replay)
    first, second = saved.sample(generator()), restored.sample(generator())
    assert torch.equal(first.task, second.task) and torch.equal(marks(first), marks(second))


def test_discrete_actions_stay_whole_numbers() -> None:
    replay = TrialReplay(ReplayConfig(capacity=4), DISCRETE, T, Transition._fields, CPU)
    rollout = random_rollout(DISCRETE, n_steps=T, n_rows=2)
    replay.add(rollout.steps, torch.tensor([0, 1]))
    sampled = ContextSampler(ContextConfig(batch=4, length=2), replay).sample(generator()).transition.action
    assert sampled.dtype == torch.int64 and sampled.shape == (2, 4, 3)
    assert set(sampled.flatten().tolist()) <= set(rollout.steps.action.flatten().tolist())


@pytest.mark.parametrize("scope", ["trial", "task"])
@pytest.mark.parametrize("n_consecutive", [1, 2, 3])
def test_a_step_has_one_before_it_where_that_is_its_own_and_an_episode_goes_on(n_consecutive: int, scope: str) -> None:
    sampler = make_sampler(n_consecutive=n_consecutive, scope=scope, length=3 * T)
    fill(sampler, [0, 1] * 4)
    contexts = sampler.sample(generator(), torch.arange(200) % 2)
    mark, start = marks(contexts), contexts.transition.episode_start
    assert start[0].all()
    follows = mark[1:] == mark[:-1] + 1  # no trial has 100 steps
    assert torch.equal(start[1:], ~follows | (mark[1:] % 100 % 4 == 0))
    assert follows.any() and (n_consecutive == 1 or (~start).float().mean() > 0.3)


def test_who_was_there_comes_with_the_transition() -> None:
    sampler, trials = make_sampler(), numbered([0, 1])
    trials.alive[2:, :, 1] = False
    sampler.replay.add(as_steps(trials), torch.tensor([0, 0]))
    contexts = sampler.sample(generator())
    assert torch.equal(contexts.transition.alive[..., 1], marks(contexts) % 100 < 2)
    assert contexts.transition.alive[..., [0, 2]].all()


def test_a_task_without_trials_is_refused_by_the_name_of_the_setting() -> None:
    sampler = make_sampler()
    fill(sampler, [0, 1] * 4)
    with pytest.raises(ReplayTooSmall, match=r"no trial of task 2 among the last 8: raise replay\.capacity"):
        sampler.sample(generator(), torch.tensor([0, 2]))


@pytest.mark.parametrize("length", [3, T, 100])
def test_contexts_in_their_order_are_stretches_of_a_trial_or_all_of_it(length: int) -> None:
    sampler = make_sampler(order="trial", length=length)
    fill(sampler, [0, 1] * 4)
    mark = marks(sampler.sample(generator(), torch.arange(200) % 2))
    assert len(mark) == min(length, T) and (mark[1:] == mark[:-1] + 1).all()
    assert set((mark[0] % 100).tolist()) == set(range(T - len(mark) + 1))
