"""Rows of PettingZoo environments, played one after the other on records that the batch shares with them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from envs.core import CannotDraw, EnvFailure, EnvSpec, Picture, Task
from envs.pettingzoo.answers import OF_RESET, OF_STEP, Array, ByAgent, flag, given, info_of, number, parts
from envs.pettingzoo.factory import Complaint, close_env, in_one_line, make_env
from envs.pettingzoo.images import paste
from envs.pettingzoo.interrupts import raise_interruption, told_apart
from envs.pettingzoo.layout import Env, Layout
from envs.pettingzoo.pictures import make_drawn, picture_of
from envs.pettingzoo.seat import Seat

Records = NDArray[np.void]  # (B,) of ``record_type``


class Game(NamedTuple):
    """What rows need to know of their family."""

    family: str
    factory: str
    tasks: tuple[Task, ...]
    layouts: tuple[Layout, ...]  # of each task's environment
    spec: EnvSpec
    is_drawn: bool = False  # environments are made so that they draw themselves

    def place(self, record: Any) -> str:
        """What a failure is reported with: family, task and seed of a row."""
        return f"{self.family}, task {self.tasks[record['task']].name!r}, seed {record['seed']}"


def record_type(spec: EnvSpec) -> np.dtype[np.void]:
    """A row: what it is told to do, and what it shows, as ``StepResult`` has it."""
    N, A = spec.n_agents, spec.action_dim
    obs, state = (np.uint8 if dtype == torch.uint8 else np.float32 for dtype in (spec.obs_dtype, spec.state_dtype))
    action = ("action", np.int64, (N,)) if spec.is_discrete else ("action", np.float32, (N, A))
    return np.dtype(
        [
            ("task", np.int64),
            ("seed", np.int64),
            action,
            ("obs", obs, (N, spec.obs_dim)),
            ("state", state, (spec.state_dim,)),
            ("reward", np.float32, (N,)),
            ("legal", np.bool_, (N, A)),  # without meaning where actions are continuous
            ("alive", np.bool_, (N,)),
            ("terminated", np.bool_),
            ("truncated", np.bool_),
            ("restart", np.bool_),  # at the next reset
            ("busy", np.bool_),  # its environment is at work
        ],
        align=True,
    )


class Rows:
    """The rows of some records, each with an environment of its own, made anew only for another task.

    Whatever an environment raises, sys.exit included, becomes an EnvFailure that names family, task and seed.
    """

    def __init__(self, game: Game, records: Records) -> None:
        self._game = game
        self.records = records
        self._played: dict[int, Row] = {}

    @told_apart()
    def reset(self) -> None:
        """Restart the rows that are to restart."""
        for place in np.flatnonzero(self.records["restart"]).tolist():
            record = self.records[place]
            with self._at_work(record):
                self._row(place, int(record["task"])).restart(record)

    @told_apart()
    def step(self) -> None:
        """Act in every row."""
        for place, record in enumerate(self.records):
            with self._at_work(record):
                self._played[place].step(record)

    @told_apart()
    def picture(self, place: int) -> Picture | None:
        """What a row's environment draws; None where it does not. Raises CannotDraw."""
        if not self._game.is_drawn:
            return None
        return picture_of(self._played[place].env, self._game.place(self.records[place]))

    @told_apart()
    def close(self) -> None:
        """Close all environments."""
        while self._played:
            self._played.popitem()[1].close()

    def _row(self, place: int, task: int) -> Row:
        row = self._played.get(place)
        if row is not None and row.task == task:
            return row
        if row is not None:
            self._played.pop(place).close()
        make = make_drawn if self._game.is_drawn else make_env
        env = make(self._game.factory, self._game.tasks[task].params)
        self._played[place] = Row(env, self._game.layouts[task], task, self._game.spec)
        return self._played[place]

    @contextmanager
    def _at_work(self, record: Any) -> Iterator[None]:
        record["busy"] = True
        try:
            yield
        except CannotDraw:
            raise
        except BaseException as error:
            raise_interruption(error)
            raise EnvFailure(f"{self._game.place(record)}: {in_one_line(error)}") from error
        record["busy"] = False


class Row:
    """One environment, and how far its episode is."""

    def __init__(self, env: Env, layout: Layout, task: int, spec: EnvSpec) -> None:
        self.env, self.layout, self.task, self._spec = env, layout, task, spec
        self._elapsed = 0
        self._known = {seat.agent for seat in layout.seats}
        self._listed: set[Any] = set()  # the environment's list of agents
        self._ended: set[Any] = set()  # those that were terminated or truncated in this episode

    def close(self) -> None:
        close_env(self.env)

    def restart(self, record: Any) -> None:
        """Begin an episode."""
        obs, infos = parts(self.env.reset(seed=int(record["seed"])), "reset", OF_RESET)
        self._elapsed, self._listed, self._ended = 0, set(), set()
        self._read_list()
        if not self._listed:
            raise Complaint("reset() left no agents")
        for name in ("state", "reward", "terminated", "truncated"):
            record[name] = 0
        seen = {agent: given(obs, agent, "observation") for agent in self._listed}
        self._show(record, seen, infos, self._listed)

    def step(self, record: Any) -> None:
        """Act. An episode is over when all agents have left, truncated where one of the last ran out of time.

        An agent that runs out of time while others go on counts as gone. One that ended does not act again; while the
        environment lists it nevertheless, it is told an action that never changes.
        """
        record["reward"] = 0
        acting = self._listed - self._ended
        if not acting:
            return
        actions = {}
        for n, seat in self._seats(self._listed):
            chosen = record["action"][n]
            actions[seat.agent] = seat.action(chosen if seat.agent in acting else np.zeros_like(chosen))
        obs, rewards, terminations, truncations, infos = parts(self.env.step(actions), "step", OF_STEP)
        self._elapsed += 1
        gone = {agent for agent in acting if flag(terminations, agent, "termination")}
        late = {agent for agent in acting if flag(truncations, agent, "truncation")} - gone
        self._ended |= gone | late
        self._read_list()
        staying = self._listed - self._ended
        is_over = not staying
        record["truncated"] = bool(late) if is_over else self._elapsed >= self._spec.episode_steps
        record["terminated"] = is_over and not late
        for n, seat in self._seats(acting):
            record["reward"][n] = number(given(rewards, seat.agent, "reward"), "reward", seat.agent)
        seen = {agent: obs[agent] for agent in acting if obs.get(agent) is not None}
        seen |= {agent: given(obs, agent, "observation") for agent in staying | late}
        self._show(record, seen, infos, staying or late, must_act=not is_over)

    def _read_list(self) -> None:
        """Those that ended may stay in the environment's list of agents, but not leave it and come back."""
        listed = set(self.env.agents or ())
        unknown = listed - self._known
        if unknown:
            known = f"possible_agents has {', '.join(self.layout.agents)} alone"
            raise Complaint(f"agents has {', '.join(sorted(map(str, unknown)))}, where {known}")
        back = (listed & self._ended) - self._listed
        if back:
            raise Complaint(f"{', '.join(sorted(map(str, back)))} ended, left and is listed again before a reset")
        self._listed = listed

    def _seats(self, agents: Collection[Any]) -> Iterator[tuple[int, Seat]]:
        """Numbers and seats of some agents, in order."""
        return ((n, seat) for n, seat in enumerate(self.layout.seats) if seat.agent in agents)

    def _show(self, record: Any, obs: ByAgent, infos: ByAgent, alive: set[Any], *, must_act: bool = True) -> None:
        """Write down what there is to see; of agents that leave in this step too, of those that left before no more."""
        for name in ("obs", "legal", "alive"):
            record[name] = 0
        for n, seat in self._seats(obs):
            self._see(seat, obs[seat.agent], record["obs"][n])
        for n, seat in enumerate(self.layout.seats):
            is_alive = seat.agent in alive
            record["alive"][n] = is_alive
            legal: Array | bool = True
            if is_alive and self.layout.is_discrete:
                legal = seat.legal(obs[seat.agent], info_of(infos, seat.agent), must_act=must_act)
            record["legal"][n, : seat.action_size] = legal
        if not self.layout.state_size:
            record["state"] = record["obs"].ravel()
        elif not record["terminated"]:  # some cannot tell their state when nobody is left, and nothing follows
            self._see_all(record["state"])

    def _see(self, seat: Seat, obs: Any, into: Array) -> None:
        """Write down an observation: (obs_dim,)."""
        images, form = self._spec.obs_images, seat.form
        if images is None or form is None:
            into[: seat.obs_size] = seat.observe(obs)
        else:
            paste(seat.image(obs, form), into, images)

    def _see_all(self, into: Array) -> None:
        """Write down the environment's own state: (state_dim,)."""
        state, images, form = self.layout.state(self.env), self._spec.state_images, self.layout.state_form
        if images is None or form is None:
            into[: self.layout.state_size] = state
        else:
            paste(form.read(state, "state() gave"), into, images)
