"""Does a grid play every combination once, tell of those that fail, and leave nothing running?"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import mg2l_kalei.__main__ as program
from mg2l_kalei.config import ConfigError
from mg2l_kalei.disk.metric_log import read_metrics
from mg2l_kalei.disk.run_folder import RunFolder
from mg2l_kalei.grid import PlannedRun, combinations, planned
from mg2l_kalei.grid.executors import Executor, LocalExecutor, RayExecutor, Resources
from mg2l_kalei.grid.runs import SUITES
from tests.small_runs import folder_of, remains, tiny

LOCKING = """
import sys
from pathlib import Path
from mg2l_kalei.commands.outcome import exit_code
from mg2l_kalei.disk.run_folder import RunFolder
def train():
    with RunFolder(Path({path!r})).lock():
        return 0
sys.exit(exit_code(train))
"""
Script = dict[str, str]  # a run's seed -> what is played in its place


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Short programs in the place of training."""
    played: Script = {}

    def command(executor: Executor, run: PlannedRun) -> list[str]:
        return [sys.executable, "-c", played[str(run.config.seed)]]

    monkeypatch.setattr(Executor, "command", command)
    return played


def seeds(results: Path, *numbers: str) -> list[str]:
    return [*(word.replace("--", "") for word in tiny(results, algo="mappo", n_iters=1)), f"seed={','.join(numbers)}"]


def test_a_run_that_would_start_from_nothing_is_told_before_any_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "nowhere"
    assert program.main(["grid", *seeds(tmp_path, "0", "1"), f"init_from={missing}"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and told[0].startswith(f"init_from={missing}: ")
    assert not list(tmp_path.iterdir())


def test_every_combination_is_a_command_line(tmp_path: Path) -> None:
    words = combinations(["env=toy", "algo=mappo,oracle", "seed=0..2", "network.hidden=[8,8],[16]", "gamma=0.9"])
    assert len(words) == 2 * 3 * 2
    assert words[0] == ("--env=toy", "--algo=mappo", "seed=0", "network.hidden=[8,8]", "gamma=0.9")
    assert words[-1] == ("--env=toy", "--algo=oracle", "seed=2", "network.hidden=[16]", "gamma=0.9")
    file = tmp_path / "grid.yaml"
    file.write_text(
        "env: toy\nalgo: [mappo, oracle]\nseed: 0..2\nnetwork:\n  hidden: [[8, 8], [16]]\nlearner.gamma: 0.9\n"
    )
    assert combinations(file)[-1] == (
        "--env=toy",
        "--algo=oracle",
        "seed=2",
        "network.hidden=[16]",
        "learner.gamma=0.9",
    )


def test_families_are_those_of_a_suite_and_of_the_core_where_nothing_says_which(tmp_path: Path) -> None:
    core = [(f"--env={name}", "--algo=mappo") for name in SUITES["core"]]
    assert combinations(["suite=core", "algo=mappo"]) == combinations(["algo=mappo"]) == core
    for says_which in ("env=toy", "expt=quick", "config=there.yaml"):
        assert combinations([says_which]) == [(f"--{says_which}",)]
    for words, problem in ((["suite=cor"], "did you mean core"), (["suite=core", "env=toy"], "expected one of them")):
        with pytest.raises(ConfigError, match=problem):
            combinations(words)


def test_everything_that_is_wrong_is_said_before_anything_is_played(tmp_path: Path) -> None:
    lines = combinations([f"results_dir={tmp_path}", "env=toy-corners", "algo=mappo,mapo", "seed=0,-1"])
    with pytest.raises(ConfigError) as refused:
        planned(lines)
    assert [problem.split(":")[1].strip().split("=")[0] for problem in refused.value.problems] == ["seed", "algo"]
    with pytest.raises(ConfigError, match="is the same run as"):
        planned(combinations(["env=toy-corners", "seed=0,0"]))
    with pytest.raises(ConfigError, match="index=7: the grid has runs 0 to 1"):
        from mg2l_kalei.commands.grid import grid

        grid(["env=toy-corners", "seed=0,1", "index=7"])
    with pytest.raises(ConfigError, match="--list: expected --key=value"):
        grid(["env=toy-corners", "seed=0,1", "--list"])
    assert not list(tmp_path.iterdir())


def test_a_grid_is_what_single_commands_are_and_finished_runs_are_not_played_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = seeds(tmp_path / "grid", "0", "1")
    assert program.main(["grid", *words, "index=1"]) == 0  # as an array job plays it
    assert program.main(["grid", *words, "n_parallel=1"]) == 0
    assert "1 of 2 runs are finished" in capsys.readouterr().out
    alone = [*tiny(tmp_path / "alone", algo="mappo", n_iters=1), "seed=0"]
    assert program.main(["train", *alone]) == 0
    by_grid = [*tiny(tmp_path / "grid", algo="mappo", n_iters=1), "seed=0"]
    assert remains(folder_of(by_grid)) == remains(folder_of(alone))
    monkeypatch.setattr(Executor, "command", lambda executor, run: pytest.fail("played again"))
    assert program.main(["grid", *words]) == 0
    assert program.main(["grid", *words, "list=true"]) == 0
    assert capsys.readouterr().out.count(" finished ") == 2


def test_a_run_is_finished_where_it_is_trained_and_evaluated_as_asked_for(tmp_path: Path) -> None:
    base = [*tiny(tmp_path, env="mpe-wind", algo="mappo", n_iters=2, env__n_train=2, env__n_test=1, env__n_ood=1)]

    def asked(*changes: str) -> PlannedRun:
        kept = [word for word in base if word.split("=")[0] not in {change.split("=")[0] for change in changes}]
        (run,) = planned([[*kept, *changes]])
        return run

    assert not asked().is_finished()
    assert program.main(["train", *base]) == 0
    n_steps = read_metrics(asked().folder.metrics)[-1]["env_steps"]
    assert asked().is_finished() and asked("n_iters=1").is_finished()
    by_steps = [word for word in base if not word.startswith("n_iters")]
    (short,), (long,) = (planned([[*by_steps, f"total_env_steps={n}"]]) for n in (n_steps, n_steps + 1))
    assert short.is_finished() and not long.is_finished()
    for change in ("n_iters=3", "eval_trials=1", "eval_episodes=1", "eval_actions=sampled"):
        assert not asked(change).is_finished(), change
    (held_out,) = asked().folder.evaluation.glob("test-*.json")
    held_out.unlink()
    assert not asked().is_finished()


def test_ranges_are_of_numbers_that_there_are() -> None:
    for wrong in ("seed=4..0", "seed=0..99999999999", "seed=0,"):
        with pytest.raises(ConfigError, match="grid: "):
            combinations([wrong])


def test_a_run_that_fails_is_told_with_its_last_lines_and_the_others_go_on(
    tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    script |= {"0": "print('one')", "1": "import sys; print('broken\\x1b'); sys.exit(3)", "2": "print('two')"}
    assert program.main(["grid", *seeds(tmp_path, "0", "1", "2"), "n_parallel=2"]) == 1
    output = capsys.readouterr()
    assert output.out.count("finished after") == 2
    assert "failed (exit code 3)" in output.err and "    broken\\x1b\n" in output.err
    assert "1 of 3 runs failed, exit codes 3 (1 times); the same command tries them again" in output.err


def test_a_run_that_another_trains_as_its_reference_is_played_after_it(
    tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, begun = RunFolder(tmp_path / "reference"), threading.Event()
    script["0"] = LOCKING.format(path=str(folder.path))
    mark = tmp_path / "mark"
    script["1"] = f"import time; from pathlib import Path\nwhile not Path({str(mark)!r}).exists(): time.sleep(0.05)"

    def other_process() -> None:
        with folder.lock():
            begun.set()
            while sum(log.read_text().count("is being written by") for log in tmp_path.rglob("*s0-*.log")) < 2:
                time.sleep(0.05)
        mark.touch()

    threading.Thread(target=other_process, daemon=True).start()
    assert begun.wait(10)
    words = seeds(tmp_path, "0", "1")
    alone = [*(word for word in words if "seed" not in word), "seed=0"]
    assert program.main(["grid", *alone]) == 1
    assert "is being written by" in capsys.readouterr().err
    assert program.main(["grid", *words, "n_parallel=2"]) == 0
    assert capsys.readouterr().out.count("finished after") == 2
    (log,) = tmp_path.rglob("*s0-*.log")
    assert log.read_text().count("is being written by") == 2


def test_a_grid_that_is_stopped_stops_its_runs(tmp_path: Path, script: Script) -> None:
    marks = {seed: tmp_path / f"stopped-{seed}" for seed in "01"}
    for seed, mark in marks.items():
        script[seed] = (
            "import signal, sys, time; from pathlib import Path\n"
            f"signal.signal(signal.SIGTERM, lambda *_: (Path({str(mark)!r}).touch(), sys.exit(143)))\n"
            f"Path({str(mark) + '-begun'!r}).touch(); time.sleep(60)"
        )

    def stop() -> None:
        while len(list(tmp_path.glob("*-begun"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    assert program.main(["grid", *seeds(tmp_path, "0", "1", "2"), "n_parallel=2"]) == 128 + signal.SIGTERM
    assert all(mark.exists() for mark in marks.values())


def test_threads_are_divided_unless_they_are_set(tmp_path: Path) -> None:
    first, second = planned([["seed=0"], ["seed=1", "n_threads=5"]])
    executor = LocalExecutor(2, Resources(n_threads=3))
    assert executor.command(first)[-2:] == ["seed=0", "n_threads=3"]
    assert executor.command(second)[-1] == "n_threads=5"


@pytest.mark.slow
def test_runs_end_on_a_ray_cluster_that_loses_a_node(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    words = [*(word.replace("--", "") for word in tiny(tmp_path / "ray", algo="mappo", n_iters=60)), "seed=0..2"]
    runs = planned(combinations(words))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    lost = cluster.add_node(num_cpus=2)
    ended: dict[int, int] = {}
    ended_before: list[int] = []

    def lose_a_node() -> None:
        while sum(run.folder.metrics.is_file() for run in runs) < 2:
            time.sleep(0.1)
        ended_before.append(len(ended))
        cluster.remove_node(lost, allow_graceful=False)

    try:
        threading.Thread(target=lose_a_node, daemon=True).start()
        for outcome in RayExecutor(0, Resources(n_threads=1), cluster.address).play(runs):
            ended[outcome.run.config.seed] = outcome.exit_code
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert ended_before == [0] and ended == {0: 0, 1: 0, 2: 0}
    assert any(run.log.read_text().count("going on from iteration") for run in runs)
    for seed in range(3):
        alone = [*tiny(tmp_path / "alone", algo="mappo", n_iters=60), f"seed={seed}"]
        assert program.main(["train", *alone]) == 0
        by_ray = next(run for run in runs if run.config.seed == seed).folder
        metrics = [
            [{k: v for k, v in json.loads(line).items() if not k.startswith("time/")} for line in text.splitlines()]
            for text in (by_ray.metrics.read_text(), folder_of(alone).metrics.read_text())
        ]
        assert metrics[0] == metrics[1]
