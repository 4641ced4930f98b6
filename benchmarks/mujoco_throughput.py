"""Environment steps per second of MuJoCo robots: our rows beside gymnasium-robotics and MuJoCo alone.

    python -m benchmarks.mujoco_throughput [scenario=NAME ...] [n_rows ...]

Four take turns within one run, so that all see the same machine; medians over rounds, and of ratios within a round:

- limit: MuJoCo's own steps and nothing else, on all cores: a thread for each, with its share of the rows, in native
  calls that take many steps of many rows. Rows that have fallen are put back between calls.
- ours: one batch, with observations, rewards and resets, on all cores.
- one process: as many environments of ``mamujoco_v1``, one after the other.
- workers: the same in processes, one per core, each with its share; arrays of actions, observations, rewards and ends
  go through pipes.

All play uniformly random actions, drawn anew in each step, from episode to episode (agents see joints one joint away);
one step moves all agents of one row. Needs gymnasium-robotics.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Protocol

import mujoco
import numpy as np
import torch
from mujoco.rollout import Rollout
from numpy.typing import NDArray

from envs.mujoco.family import MujocoFamily
from envs.mujoco.imports import obsk_module
from envs.mujoco.robots import Array
from envs.mujoco.team import MujocoConfig

ROUNDS = 7
STEPS = 250  # of every row in a round
STEPS_IN_CALL = 25  # of every row in one native call of the limit
EPISODE_STEPS = 1000
N_ROWS = (64,)
OBSK = 1
SCENARIOS = {"halfcheetah-2x3": ("HalfCheetah", "2x3"), "ant-4x2": ("Ant", "4x2")}
SIDES = ("limit", "ours", "one process", "workers")


class Player(Protocol):
    def play(self) -> None:
        """``STEPS`` steps of every row, going on where it stopped."""
        ...


def family(scenario: str) -> MujocoFamily:
    robot, conf = SCENARIOS[scenario]
    return MujocoFamily(scenario, MujocoConfig(robot, conf, agent_obsk=OBSK), np.random.default_rng(0))


def n_cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- MuJoCo alone -----------------------------------------------------------------------------------------------------


class Limit:
    """Open-loop rollouts of shares of the rows, each share in a thread of its own."""

    def __init__(self, scenario: str, n_rows: int) -> None:
        made = family(scenario)
        shares = [len(share) for share in np.array_split(np.arange(n_rows), n_cores()) if len(share)]
        self._shares = [_Share(made, n, seed) for seed, n in enumerate(shares)]
        self._threads = ThreadPoolExecutor(len(shares))

    def play(self) -> None:
        for done in [self._threads.submit(share.play) for share in self._shares]:
            done.result()


class _Share:
    def __init__(self, made: MujocoFamily, n_rows: int, seed: int) -> None:
        self._robot, self._model, self._n_rows = made.team.robot, made.team.model, n_rows
        self._data, self._generator, self._rollout = mujoco.MjData(self._model), np.random.default_rng(seed), Rollout()
        self._now = np.concatenate([self._start() for _ in range(n_rows)])
        self._n_calls = 0

    def play(self) -> None:
        model, robot = self._model, self._robot
        for _ in range(STEPS // STEPS_IN_CALL):
            actions = self._generator.uniform(-1, 1, (self._n_rows, STEPS_IN_CALL, model.nu))
            control = actions.repeat(robot.n_substeps, axis=1) * model.actuator_ctrlrange[:, 1]
            states, _ = self._rollout.rollout(model, self._data, self._now, control)
            self._now = states[:, -1].copy()
            self._n_calls += 1
            is_time_over = self._n_calls * STEPS_IN_CALL % EPISODE_STEPS == 0
            has_fallen = self._has_fallen(states[:, robot.n_substeps - 1 :: robot.n_substeps])
            for row in np.flatnonzero(has_fallen | is_time_over):
                self._now[row] = self._start()

    def _has_fallen(self, states: Array) -> NDArray[np.bool_]:
        """Rows of states (B, T, n) that fell in some step: (B,)."""
        if self._robot.is_healthy is None:
            return np.zeros(self._n_rows, dtype=bool)
        first, between, last = np.cumsum((1, self._model.nq, self._model.nv))  # before them, the time
        flat = states.reshape(-1, states.shape[-1])
        healthy = self._robot.is_healthy(flat[:, first:between], flat[:, between:last])
        return np.array([not row.all() for row in healthy.reshape(self._n_rows, -1)])

    def _start(self) -> Array:
        """A state at the start of an episode: (1, n)."""
        mujoco.mj_resetData(self._model, self._data)
        noise, generator = self._robot.reset_noise, self._generator
        self._data.qpos += generator.uniform(-noise, noise, self._model.nq)
        self._data.qvel += generator.normal(0, noise, self._model.nv)
        mujoco.mj_forward(self._model, self._data)
        full = mujoco.mjtState.mjSTATE_FULLPHYSICS.value
        state = np.empty((1, mujoco.mj_stateSize(self._model, full)))
        mujoco.mj_getState(self._model, self._data, state[0], full)
        return state


# --- ours -------------------------------------------------------------------------------------------------------------


class Ours:
    def __init__(self, scenario: str, n_rows: int) -> None:
        made = family(scenario)
        self._generator = torch.Generator().manual_seed(0)
        torch.set_num_threads(n_cores())  # the batch takes as many
        self._batch = made.make(n_rows, torch.device("cpu"), self._generator)
        self._shape = (STEPS, n_rows, made.spec.n_agents, made.spec.action_dim)
        self._tasks = torch.zeros(n_rows, dtype=torch.int64)
        self._batch.reset(self._tasks)

    def play(self) -> None:
        for action in torch.rand(self._shape, generator=self._generator) * 2 - 1:
            result = self._batch.step(action)
            is_over = result.terminated | result.truncated
            if is_over.any():
                self._batch.reset(self._tasks, is_over)


# --- gymnasium-robotics -----------------------------------------------------------------------------------------------


class Environments:
    """Environments of ``mamujoco_v1``, stepped one after the other. Those that have ended are started anew."""

    def __init__(self, scenario: str, n_rows: int, seed: int) -> None:
        obsk_module()  # or its package complains about robots that are not used here
        from gymnasium_robotics import mamujoco_v1

        mujoco.set_mju_user_warning(lambda message: None)  # or MuJoCo writes a log file
        made = {"agent_obsk": OBSK, "disable_env_checker": True}
        self._envs = [mamujoco_v1.parallel_env(*SCENARIOS[scenario], **made) for _ in range(n_rows)]
        self._agents = self._envs[0].possible_agents
        for row, env in enumerate(self._envs):
            env.reset(seed=1000 * seed + row)

    def step(self, action: Array) -> tuple[Array, Array, Array]:
        """(B, N, action_dim) -> observations (B, N, obs_dim), rewards (B, N), and where episodes ended (B,)."""
        obs, rewards, ends = [], [], []
        for env, row in zip(self._envs, action, strict=True):
            seen, paid, terminated, truncated, _ = env.step(dict(zip(self._agents, row, strict=True)))
            is_over = any(terminated.values()) or any(truncated.values())
            if is_over:
                seen, _ = env.reset()
            obs.append([seen[agent] for agent in self._agents])
            rewards.append([paid[agent] for agent in self._agents])
            ends.append(is_over)
        return np.array(obs, np.float32), np.array(rewards, np.float32), np.array(ends)


class OneProcess:
    def __init__(self, scenario: str, n_rows: int) -> None:
        spec = family(scenario).spec
        self._envs, self._generator = Environments(scenario, n_rows, seed=0), np.random.default_rng(0)
        self._shape = (STEPS, n_rows, spec.n_agents, spec.action_dim)

    def play(self) -> None:
        for action in self._generator.uniform(-1, 1, self._shape):
            self._envs.step(action)


def work(pipe: Connection, scenario: str, n_rows: int, seed: int) -> None:
    """In a process of its own: a message of actions, an answer of results; None ends it."""
    envs = Environments(scenario, n_rows, seed)
    pipe.send("ready")
    while (action := pipe.recv()) is not None:
        pipe.send(envs.step(action))


class Workers:
    def __init__(self, scenario: str, n_rows: int) -> None:
        spec, context = family(scenario).spec, multiprocessing.get_context("spawn")
        self._generator, self._shape = np.random.default_rng(0), (STEPS, n_rows, spec.n_agents, spec.action_dim)
        self._shares = [share for share in np.array_split(np.arange(n_rows), n_cores()) if len(share)]
        self._pipes, self._processes = [], []
        for seed, share in enumerate(self._shares):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, scenario, len(share), seed), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()

    def play(self) -> None:
        for action in self._generator.uniform(-1, 1, self._shape):
            for pipe, share in zip(self._pipes, self._shares, strict=True):
                pipe.send(action[share])
            for values in zip(*[pipe.recv() for pipe in self._pipes], strict=True):
                np.concatenate(values)

    def close(self) -> None:
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.send(None)
            process.join()


# --- in turn ----------------------------------------------------------------------------------------------------------


@contextmanager
def players(scenario: str, n_rows: int) -> Iterator[list[Player]]:
    """Of ``SIDES``, warmed up."""
    with ExitStack() as stack:
        workers = Workers(scenario, n_rows)
        stack.callback(workers.close)
        all_: list[Player] = [Limit(scenario, n_rows), Ours(scenario, n_rows), OneProcess(scenario, n_rows), workers]
        for player in all_:
            player.play()
        yield all_


def rate(player: Player, n_rows: int) -> float:
    started = time.perf_counter()
    player.play()
    return STEPS * n_rows / (time.perf_counter() - started)


def report(scenario: str, n_rows: int) -> None:
    """A line of the table."""
    with players(scenario, n_rows) as all_:
        rounds = [[rate(player, n_rows) for player in all_] for _ in range(ROUNDS)]
    line = f"{scenario:>16} {n_rows:>6,}"
    for place in range(len(SIDES)):
        line += f"{statistics.median(row[place] for row in rounds):>14,.0f}"
    for place in (0, 2, 3):
        line += f"{statistics.median(row[1] / row[place] for row in rounds):>18.2f}"
    print(line, flush=True)


def main(words: list[str]) -> None:
    known = {f"scenario={name}" for name in SCENARIOS}
    if unknown := [word for word in words if word not in known and not (word.isdecimal() and int(word))]:
        sys.exit(f"{' '.join(unknown)}: expected numbers of rows, or scenario= {', '.join(SCENARIOS)}")
    names = [word.removeprefix("scenario=") for word in words if word.startswith("scenario=")] or list(SCENARIOS)
    sizes = [int(word) for word in words if "=" not in word] or list(N_ROWS)
    print(f"steps/s on {n_cores()} cores, median of {ROUNDS} rounds of {STEPS} steps of every row")
    heads = "".join(f"{side:>14}" for side in SIDES) + "".join(f"{f'ours/{SIDES[i]}':>18}" for i in (0, 2, 3))
    print(f"{'':>16} {'rows':>6}{heads}")
    for name in names:
        for n_rows in sizes:
            report(name, n_rows)


if __name__ == "__main__":
    main(sys.argv[1:])
