"""Checks of how a family's batches behave."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from envs.check.play import N_ROWS, Actor, Bench, Record, difference, go_on, restart, seen_in
from envs.check.watched import Spoilt, Watched
from envs.core import CannotDraw, EnvBatch, Picture, Scene, StepResult

MAX_TASKS = 6  # compared with each other


def seed_decides(bench: Bench) -> Iterator[str]:
    same_task = torch.zeros_like(bench.mixed)
    if field := difference(bench.play(same_task), bench.play(same_task)):
        yield f"two batches with one seed and the same actions differ in {field}"


def seeds_differ(bench: Bench) -> Iterator[str]:
    same_task = torch.zeros_like(bench.mixed)
    if not difference(bench.play(same_task), bench.play(same_task, seed=1)):
        yield "batches with different seeds do not differ"


def starts_differ(bench: Bench) -> Iterator[str]:
    same_task = torch.zeros_like(bench.mixed)
    batch, _ = bench.make()
    starts = [batch.reset(same_task) for _ in range(3)]
    if all((start.state == start.state[0]).all() and (start.obs == start.obs[0]).all() for start in starts):
        yield "all rows start alike"


def task_matters(bench: Bench) -> Iterator[str]:
    """Tasks must differ in reward or dynamics; a family of a single task declares that nothing is hidden."""
    if not bench.family.random_play_tells:
        return
    tasks = bench.family.tasks
    chosen = range(0, len(tasks), -(-len(tasks) // MAX_TASKS))
    steps = {i: bench.play(torch.full_like(bench.mixed, i))[1::2] for i in chosen}
    for i, j in combinations(chosen, 2):
        if not difference(steps[i], steps[j]):
            pair = f"{tasks[i].name!r} and {tasks[j].name!r}"
            yield f"tasks {pair} differ neither in reward nor in dynamics in {len(steps[i])} random steps"


def restart_leaves_no_trace(bench: Bench) -> Iterator[str]:
    batch, generator = bench.make()
    at_start = generator.get_state()
    first = restart(batch, bench.mixed, bench.actor())
    for tasks in (bench.other, bench.mixed, bench.mixed):
        restart(batch, tasks, bench.actor(1))
    generator.set_state(at_start)
    if field := difference(first, restart(batch, bench.mixed, bench.actor())):
        yield (
            f"with the generator put back, a restart after other trials differs in {field} from the first: "
            "something is left over, or randomness comes from elsewhere"
        )


def partial_reset_is_partial(bench: Bench) -> Iterator[str]:
    (batch, _), (twin, _) = bench.make(), bench.make()
    actor, twin_actor = bench.actor(), bench.actor()
    before, twin_before = _a_few_steps(bench, batch, actor), _a_few_steps(bench, twin, twin_actor)
    where = bench.rows == 0
    if isinstance(before, StepResult):
        where = where | before.terminated
    after = batch.reset(bench.other, where)
    kept, tasks = seen_in(before), torch.where(where, bench.other, bench.mixed)
    if field := difference([kept], [after], ~where):
        yield f"reset with `where` changes {field} of rows not chosen"
    later = go_on(batch, tasks, after.legal, actor)
    twin_later = go_on(twin, bench.mixed, twin_before.legal, twin_actor)
    if field := difference(later, twin_later, ~where):
        yield f"after a reset with `where`, rows not chosen go on differently in {field}"
    if not difference([kept, *later], [after, *twin_later], where):
        yield "reset with `where` does not restart the rows chosen"


def _a_few_steps(bench: Bench, batch: EnvBatch, actor: Actor) -> Record:
    """The last record of a start and some steps, short of the time limit."""
    last: Record = batch.reset(bench.mixed)
    for _ in range(min(3, bench.spec.episode_steps - 1)):
        last = batch.step(actor(last.legal))
        if last.terminated.any():
            break
    return last


class _OtherInFirstRow(Actor):
    """Acts as ``Bench.actor()`` does, but otherwise in the first row."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.spec, bench.device, seed=0)
        self._first_row = bench.actor(seed=1)

    def __call__(self, legal: Tensor | None) -> Tensor:
        return torch.cat((self._first_row(legal)[:1], super().__call__(legal)[1:]))


def rows_are_independent(bench: Bench) -> Iterator[str]:
    reference = bench.play(bench.mixed)
    tasks = torch.cat((bench.other[:1], bench.mixed[1:]))
    changed = restart(bench.make()[0], tasks, _OtherInFirstRow(bench))
    if field := difference(reference, changed, bench.rows > 0):
        yield f"another task and other actions in one row change {field} of the other rows"


def early_ends_shift_nobody(bench: Bench) -> Iterator[str]:
    """What rows draw, in steps and for later starts, is theirs: they meet the same whenever the first row ends."""
    first, second = bench.rows == 0, bench.rows == 1
    ends = {5: second, 12: first | second, 20: bench.rows >= 0}
    earlier = {2: first, 3: first, **ends}
    reference = restart(bench.make()[0], bench.mixed, bench.actor(), ends)
    if field := difference(reference, restart(bench.make()[0], bench.mixed, bench.actor(), earlier), ~first):
        yield f"when the first row ends earlier, {field} of the other rows changes: they draw from a stream they share"


def records_stay(bench: Bench) -> Iterator[str]:
    """What was returned stays as it was, and what was given is left alone."""
    batch = Watched(bench.make()[0])
    restart(batch, bench.mixed, bench.actor())
    if batch.wrote_into_actions:
        yield "step writes into the actions that it is given"
    if field := difference(batch.records, batch.copies):
        yield f"{field} of an earlier record changes with later steps"


def records_are_not_the_batch(bench: Bench) -> Iterator[str]:
    """Writing into what was returned or given does not reach into the batch."""
    spoilt = restart(Spoilt(bench.make()[0]), bench.mixed, bench.actor())
    if field := difference(bench.play(bench.mixed), spoilt):
        yield f"writing into a record, or the tasks or actions given, changes {field} of a later step"


def time_limit_is_kept(bench: Bench) -> Iterator[str]:
    (batch, _), actor, limit = bench.make(), bench.actor(), bench.spec.episode_steps
    legal = batch.reset(bench.mixed).legal
    elapsed = torch.zeros_like(bench.mixed)
    for step in range(1, limit + limit // 2 + 1):
        result = batch.step(actor(legal))
        elapsed += 1
        if (result.terminated & result.truncated).any():
            yield "a row is terminated and truncated at once"
            return
        is_late = elapsed >= limit
        is_early = result.truncated & ~is_late & bench.family.truncates_early
        if not torch.equal(result.truncated, (is_late | is_early) & ~result.terminated):
            yield f"truncated is {result.truncated.tolist()} after {elapsed.tolist()} of {limit} steps"
            return
        if bench.spec.ends_on_time and ((result.terminated | result.truncated) != is_late).any():
            yield f"episodes end on time by spec.ends_on_time, but rows have ended after {elapsed.tolist()} steps"
            return
        done = result.terminated | result.truncated
        done[0] |= step == limit // 2  # from here on, rows end apart from each other
        elapsed[done] = 0
        legal = batch.reset(bench.mixed, done).legal if done.any() else result.legal


class _Beyond(Actor):
    """Goes beyond what is legal, in each direction."""

    def __call__(self, legal: Tensor | None) -> Tensor:
        return 3 * super().__call__(legal)


class _Clamped(_Beyond):
    def __call__(self, legal: Tensor | None) -> Tensor:
        return super().__call__(legal).clamp(-1, 1)


def actions_are_clamped(bench: Bench) -> Iterator[str]:
    if bench.spec.is_discrete:
        return
    beyond, clamped = (
        restart(bench.make()[0], bench.mixed, actor(bench.spec, bench.device, seed=0)) for actor in (_Beyond, _Clamped)
    )
    if field := difference(beyond, clamped):
        yield f"actions beyond [-1, 1] are not clamped: {field} differs"


def scenes_can_be_drawn(bench: Bench) -> Iterator[str]:
    """A family whose scenes are None is not drawn at all; what this machine cannot draw, it cannot judge."""
    try:
        batch = bench.family.drawn().make(N_ROWS, bench.device, torch.Generator(bench.device).manual_seed(0))
        batch.reset(bench.mixed)
        scenes = [batch.scene(row) for row in bench.rows.tolist()]
    except CannotDraw:
        return
    if len({scene is None for scene in scenes}) > 1:
        yield "some rows have a scene, others have none"
        return
    wrong = [problem for scene in scenes if scene is not None and (problem := _not_drawn(scene))]
    yield from wrong[:1]


def _not_drawn(scene: Scene | Picture) -> str:
    """What is wrong with a scene at the start of an episode; empty: nothing."""
    if isinstance(scene, Scene):
        outside = [m for m in scene.markers if not scene.low <= min(m.x, m.y) <= max(m.x, m.y) <= scene.high]
        if scene.markers and not outside:
            return ""
        return f"a scene needs markers, at its start all in [{scene.low}, {scene.high}]; outside are {outside}"
    shape, dtype = np.shape(scene), getattr(scene, "dtype", type(scene).__name__)
    if len(shape) == 3 and shape[-1] == 3 and 0 not in shape and dtype == np.uint8:
        return ""
    return f"a picture must be (height, width, 3) uint8; it is {shape} {dtype}"


BEHAVIOUR = (
    seed_decides,
    task_matters,
    restart_leaves_no_trace,
    partial_reset_is_partial,
    rows_are_independent,
    early_ends_shift_nobody,
    records_stay,
    records_are_not_the_batch,
    time_limit_is_kept,
    actions_are_clamped,
    scenes_can_be_drawn,
)

UNUSUAL = (seeds_differ, starts_differ)  # what some games are, and most that do so are by mistake
