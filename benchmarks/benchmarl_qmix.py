"""Environment steps per second and milliseconds per update of QMIX: ours beside BenchMARL's, on one thread.

    python -m benchmarks.benchmarl_qmix [network=mlp] [network=gru] [task=mpe2] [task=vmas]

Needs benchmarl (which brings torchrl and tensordict), and mpe2 or vmas. With each network, unless one is named, the
two train in turn, an iteration each, so that both see the same machine: 32 rows play an episode of 25 steps of
simple_spread with three agents, then 32 updates are made, each on 800 replayed steps of the team. Nothing is evaluated
or logged: BenchMARL's iterations are those of its ``Experiment`` less its log. Medians over rounds, after two that do
not count; ratios are of figures within a round.

The same: agents of 64 x 64 x 64 that share all weights and are not told their number (``gru``: a GRU of 64 after the
first of the three layers, trained on whole episodes), a mixer of 32, Adam's settings, clipping, target copies each 200
updates, discount, exploration and the replay's size.

Not the same:

- BenchMARL's environment. ``mpe2`` is what ours simulates, but one row after the other; ``vmas`` is batched, and
  another simulator (9 actions and 14 numbers in an observation; here 5 and 18).
- The mixer. Ours reads 18 numbers, positions and velocities, through hypernetworks with a hidden layer of 64;
  torchrl's reads all observations, 54 numbers, through single layers. Multiplications: 11,700 to 10,400.
- Ours standardises rewards and what networks see, lets the learning network choose the next action (double Q), and
  replays whole episodes with either network; BenchMARL replays single steps, but to a GRU.
- A time limit ends the value of an episode in ours, and in BenchMARL's it bootstraps. Products are as many either way.
- BenchMARL's layer before the GRU has no ReLU.

Both run with our setting of the C library that keeps freed memory, unless a variable ``MALLOC_*`` is set.
"""

from __future__ import annotations

import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from benchmarks.training_throughput import trainer
from mg2l_kalei.learners.qmix import Qmix
from mg2l_kalei.processes import ALONE

ROUNDS, WARM_UP = 15, 2
N_ROWS, EPISODE_STEPS = 32, 25  # of both; an iteration is an episode of every row
N_UPDATES = N_ROWS  # of an iteration
WIDTH = 64
NETWORKS = {"mlp": "none", "gru": "episode"}  # -> network.memory
TASKS = ("mpe2", "vmas")


class Iteration(NamedTuple):
    n_steps: int  # of the environment
    n_updates: int
    seconds: float
    update_seconds: float  # of them, those in updates, the replay's draws included

    @property
    def rate(self) -> float:
        """Environment steps per second."""
        return self.n_steps / self.seconds

    @property
    def update_ms(self) -> float:
        return 1e3 * self.update_seconds / self.n_updates


Iterate = Callable[[], Iteration]


# --- ours -------------------------------------------------------------------------------------------------------------


def ours(network: str, folder: Path) -> Iterate:
    """What makes an iteration of ours."""
    words = ["--env=mpe-simple-spread", f"n_rows={N_ROWS}", "n_threads=1", "network.agent_id=false"]
    of = trainer("qmix", [*words, f"network.memory={NETWORKS[network]}"], folder / "bad_batch", ALONE)
    learner = cast(Qmix, of.system.learner)

    def iterate() -> Iteration:
        steps, updates, started = of.env_steps, learner.targets.n_updates, time.perf_counter()
        metrics = of.iterate()
        seconds = time.perf_counter() - started
        update_seconds = float(metrics["time/update_share"]) * float(metrics["time/iteration_s"])
        return Iteration(of.env_steps - steps, learner.targets.n_updates - updates, seconds, update_seconds)

    return iterate


# --- BenchMARL --------------------------------------------------------------------------------------------------------


def theirs(network: str, task: str, folder: Path) -> Iterate:
    """What makes an iteration of BenchMARL's, in the order of its ``Experiment._collection_loop``."""
    experiment = experiment_of(network, task, folder)
    batches = iter(experiment.collector)

    def iterate() -> Iteration:
        started = time.perf_counter()
        batch = next(batches).detach()
        update_seconds, n_updates = 0.0, 0
        for group in experiment.train_group_map:
            store(experiment, group, batch)
            began = time.perf_counter()
            for _ in range(N_UPDATES):
                experiment._optimizer_loop(group)
            update_seconds, n_updates = update_seconds + time.perf_counter() - began, n_updates + N_UPDATES
            experiment.group_policies[group][-1].step(batch.numel())  # of exploration
        experiment.collector.update_policy_weights_()
        return Iteration(batch.numel(), n_updates, time.perf_counter() - started, update_seconds)

    return iterate


def store(experiment: Any, group: str, batch: Any) -> None:
    """Put what was played into the replay."""
    of_group = batch.exclude(*experiment._get_excluded_keys(group))
    of_group = experiment.algorithm.process_batch(group, of_group)
    experiment.replay_buffers[group].extend(of_group if experiment.algorithm.has_rnn else of_group.reshape(-1))


def experiment_of(network: str, task: str, folder: Path) -> Any:
    algorithms, experiments = import_module("benchmarl.algorithms"), import_module("benchmarl.experiment")
    logging.getLogger("torchrl").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")  # of torchrl, which sets its own on import
    config = experiments.ExperimentConfig.get_from_yaml()
    for name, value in settings(folder).items():
        if not hasattr(config, name):
            raise AttributeError(f"this version of BenchMARL has no setting {name}")
        setattr(config, name, value)
    algorithm = algorithms.QmixConfig(mixing_embed_dim=32, delay_value=True, loss_function="l2")
    return experiments.Experiment(
        task=task_of(task), algorithm_config=algorithm, model_config=model_of(network), seed=0, config=config
    )


def settings(folder: Path) -> dict[str, Any]:
    """Of BenchMARL's ``ExperimentConfig``: those of our recipe on this family."""
    steps = N_ROWS * EPISODE_STEPS
    return {
        "gamma": 0.95,
        "lr": 5e-4,
        "adam_eps": 1e-8,
        "clip_grad_val": 10.0,
        "soft_target_update": False,
        "hard_target_update_frequency": 200,
        "exploration_eps_init": 1.0,
        "exploration_eps_end": 0.05,
        "exploration_anneal_frames": 50_000,
        "prefer_continuous_actions": False,
        "max_n_frames": 512_000,
        "off_policy_collected_frames_per_batch": steps,
        "off_policy_n_envs_per_worker": N_ROWS,
        "off_policy_n_optimizer_steps": N_UPDATES,
        "off_policy_train_batch_size": steps,
        "off_policy_memory_size": 5000 * EPISODE_STEPS,
        "evaluation": False,
        "loggers": [],
        "create_json": False,
        "save_folder": str(folder),
    }


def task_of(task: str) -> Any:
    if task == "vmas":
        batched = {"max_steps": EPISODE_STEPS, "n_agents": 3, "obs_agents": True}
        return import_module("benchmarl.environments").VmasTask.SIMPLE_SPREAD.get_task(batched)
    # Where torchrl looks for it. PettingZoo's own list is of when it had MPE's environments, and imports all others'.
    listed = ModuleType("pettingzoo.utils.all_modules")
    listed.__dict__["all_environments"] = import_module("mpe2.all_modules").mpe_environments
    sys.modules[listed.__name__] = listed
    scenario = {"task": "simple_spread_v3", "max_cycles": EPISODE_STEPS, "local_ratio": 0.5, "N": 3}
    return import_module("benchmarl.environments").PettingZooTask.SIMPLE_SPREAD.get_task(scenario)


def model_of(network: str) -> Any:
    models = import_module("benchmarl.models")
    layer = {"layer_class": nn.Linear, "activation_class": nn.ReLU}
    if network == "mlp":
        return models.MlpConfig(num_cells=[WIDTH] * 3, **layer)
    rest = {f"mlp_{name}": value for name, value in layer.items()}
    gru = models.GruConfig(
        hidden_size=WIDTH, n_layers=1, bias=True, dropout=0.0, compile=False, mlp_num_cells=[WIDTH] * 2, **rest
    )
    first = models.MlpConfig(num_cells=[], **layer)
    return models.SequenceModelConfig(model_configs=[first, gru], intermediate_sizes=[WIDTH])


# --- both -------------------------------------------------------------------------------------------------------------


def report(network: str, task: str, folder: Path) -> None:
    """Rates, milliseconds per update and ratios with one network."""
    sides = {"ours": ours(network, folder), f"BenchMARL, {task}": theirs(network, task, folder)}
    rounds = [[iterate() for iterate in sides.values()] for _ in range(WARM_UP + ROUNDS)][WARM_UP:]
    for side, made in zip(sides, zip(*rounds, strict=True), strict=True):
        rate, update_ms = (statistics.median(x) for x in zip(*((of.rate, of.update_ms) for of in made), strict=True))
        share = statistics.median(of.update_seconds / of.seconds for of in made)
        counts = {(of.n_steps, of.n_updates) for of in made}
        assert counts == {(N_ROWS * EPISODE_STEPS, N_UPDATES)}, counts
        print(f"{network:>8} {side:>16} {rate:>12,.0f} {update_ms:>13.1f} {share:>11.0%}")
    _print_ratios("env steps/s", [mine.rate / other.rate for mine, other in rounds])
    _print_ratios("updates/s", [other.update_ms / mine.update_ms for mine, other in rounds])


def _print_ratios(of: str, ratios: list[float]) -> None:
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"{'':>8} {of}, ours / BenchMARL: {middle:.2f} ({low:.2f} to {high:.2f}; rounds: {each})", flush=True)


def main(words: list[str]) -> None:
    known = {*(f"network={name}" for name in NETWORKS), *(f"task={name}" for name in TASKS)}
    if unknown := [word for word in words if word not in known]:
        sys.exit(f"{' '.join(unknown)}: expected {', '.join(sorted(known))}")
    networks = [word.removeprefix("network=") for word in words if word.startswith("network=")] or list(NETWORKS)
    tasks = [word.removeprefix("task=") for word in words if word.startswith("task=")] or [TASKS[0]]
    if missing := [package for package in ("benchmarl", *tasks) if find_spec(package) is None]:
        sys.exit(f"{missing[0]} is not installed: pip install {missing[0]}")
    torch.set_num_threads(1)
    print(", ".join(f"{package} {version(package)}" for package in ("benchmarl", "torchrl", "torch", *tasks)))
    print(f"{N_ROWS * EPISODE_STEPS} env steps and {N_UPDATES} updates a round, one thread, median of {ROUNDS} rounds")
    print(f"{'network':>8} {'':>16} {'env steps/s':>12} {'ms per update':>13} {'in updates':>11}")
    with tempfile.TemporaryDirectory() as folder:
        for network in networks:
            for task in tasks:
                report(network, task, Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
