"""Rows of PettingZoo environments, played one after the other on records that the batch shares with them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.core import EnvFailure, EnvSpec, Task
from envs.pettingzoo.factory import in_one_line, make_env
from envs.pettingzoo.layout import Env, Layout, Seat

Records = NDArray[np.void]  # (B,) of ``record_type``


class Game(NamedTuple):
    """What rows need to know of their family."""

    family: str
    factory: str
    tasks: tuple[Task, ...]
    layouts: tuple[Layout, ...]  # of each task's environment
    spec: EnvSpec

    def place(self, record: Any) -> str:
        """What a failure is reported with: family, task and seed of a row."""
        return f"{self.family}, task {self.tasks[record['task']].name!r}, seed {record['seed']}"


def record_type(spec: EnvSpec) -> np.dtype[np.void]:
    """A row: what it is told to do, and what it shows, as ``StepResult`` has it."""
    N, A = spec.n_agents, spec.action_dim
    action = ("action", np.int64, (N,)) if spec.is_discrete else ("action", np.float32, (N, A))
    return np.dtype(
        [
            ("task", np.int64),
            ("seed", np.int64),
            action,
            ("obs", np.float32, (N, spec.obs_dim)),
            ("state", np.float32, (spec.state_dim,)),
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

    Whatever an environment raises becomes an EnvFailure that names family, task and seed.
    """

    def __init__(self, game: Game, records: Records) -> None:
        self._game = game
        self.records = records
        self._played: dict[int, _Row] = {}

    def reset(self) -> None:
        """Restart the rows that are to restart."""
        for number in np.flatnonzero(self.records["restart"]).tolist():
            record = self.records[number]
            with self._at_work(record):
                row = self._row(number, int(record["task"]))
                row.restart(record)

    def step(self) -> None:
        """Act in every row."""
        for number, record in enumerate(self.records):
            with self._at_work(record):
                self._played[number].step(record)

    def close(self) -> None:
        """Close all environments."""
        while self._played:
            self._played.popitem()[1].close()

    def _row(self, number: int, task: int) -> _Row:
        row = self._played.get(number)
        if row is not None and row.task == task:
            return row
        if row is not None:
            self._played.pop(number).close()
        env = make_env(self._game.factory, self._game.tasks[task].params)
        self._played[number] = _Row(env, self._game.layouts[task], task, self._game.spec.episode_steps)
        return self._played[number]

    @contextmanager
    def _at_work(self, record: Any) -> Iterator[None]:
        record["busy"] = True
        try:
            yield
        except Exception as error:
            raise EnvFailure(f"{self._game.place(record)}: {in_one_line(error)}") from error
        record["busy"] = False


class _Row:
    """One environment, and how far its episode is."""

    def __init__(self, env: Env, layout: Layout, task: int, episode_steps: int) -> None:
        self.env, self.layout, self.task = env, layout, task
        self._episode_steps = episode_steps
        self._elapsed = 0
        self._is_over = False  # all agents have left

    def close(self) -> None:
        with suppress(Exception):  # what it raises then is of no interest any more
            self.env.close()

    def restart(self, record: Any) -> None:
        """Begin an episode."""
        obs, infos = self.env.reset(seed=int(record["seed"]))
        self._elapsed, self._is_over = 0, False
        for name in ("state", "reward", "terminated", "truncated"):
            record[name] = 0
        self._show(record, obs, infos, set(self.env.agents))

    def step(self, record: Any) -> None:
        """Act. An episode is over when all agents have left, truncated where one of the last ran out of time.

        An agent that runs out of time while others go on counts as gone.
        """
        record["reward"] = 0
        if self._is_over:
            return
        acting = set(self.env.agents)
        actions = {seat.agent: seat.action(record["action"][n]) for n, seat in self._seats(acting)}
        obs, rewards, terminations, truncations, infos = self.env.step(actions)
        self._elapsed += 1
        gone = {agent for agent in acting if terminations.get(agent, False)}
        timed_out = {agent for agent in acting - gone if truncations.get(agent, False)}
        staying = set(self.env.agents) - gone - timed_out
        self._is_over = not staying
        record["truncated"] = bool(timed_out) if self._is_over else self._elapsed >= self._episode_steps
        record["terminated"] = self._is_over and not timed_out
        for n, seat in self._seats(acting):
            record["reward"][n] = _given(rewards, seat.agent, "reward")
        seen = {agent: obs[agent] for agent in acting if agent in obs}
        seen |= {agent: _given(obs, agent, "observation") for agent in staying | timed_out}
        self._show(record, seen, infos, staying or timed_out)

    def _seats(self, agents: Collection[Any]) -> Iterator[tuple[int, Seat]]:
        """Numbers and seats of some agents, in order."""
        return ((n, seat) for n, seat in enumerate(self.layout.seats) if seat.agent in agents)

    def _show(self, record: Any, obs: Mapping[Any, Any], infos: Mapping[Any, Any], alive: set[Any]) -> None:
        """Write down what there is to see; of agents that leave in this step too, of those that left before no more."""
        for name in ("obs", "legal", "alive"):
            record[name] = 0
        for n, seat in self._seats(obs):
            record["obs"][n, : seat.obs_size] = seat.observe(obs[seat.agent])
        for n, seat in enumerate(self.layout.seats):
            is_alive = seat.agent in alive
            record["alive"][n] = is_alive
            asked = is_alive and self.layout.is_discrete
            info, must_act = infos.get(seat.agent, {}), not self._is_over
            legal = seat.legal(obs[seat.agent], info, must_act=must_act) if asked else True
            record["legal"][n, : seat.action_size] = legal
        if not self.layout.state_size:
            record["state"] = record["obs"].ravel()
        elif not record["terminated"]:  # some cannot tell their state when nobody is left, and nothing follows
            record["state"][: self.layout.state_size] = np.asarray(self.env.state()).ravel()


def _given(what: Mapping[Any, Any], agent: Any, name: str) -> Any:
    """Of an agent that has acted, or is to act next."""
    if agent not in what:
        raise ValueError(f"the environment gave no {name} of {agent}")
    return what[agent]
