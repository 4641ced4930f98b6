"""Do reports come out of stored results alone, and equal rliable?"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mg2l_kalei import __main__ as program
from mg2l_kalei.config.run_config import identifying
from mg2l_kalei.evaluation.reports.estimates import sections_of
from mg2l_kalei.evaluation.reports.methods import methods_of
from mg2l_kalei.evaluation.reports.pictures import figures_of
from mg2l_kalei.evaluation.reports.stored import StoredRun, find_runs
from mg2l_kalei.evaluation.reports.tables import to_latex
from mg2l_kalei.evaluation.results import AdaptationResult, to_json
from mg2l_kalei.evaluation.statistics import (
    aggregate,
    bootstrap,
    improvement,
    percentile_interval,
    performance_profile,
    resampled_aggregate,
    resampled_counts,
)
from mg2l_kalei.training.fine_tuning import _together
from mg2l_kalei.training.system import SCHEMA
from tests.evaluation.stored_runs import METHODS, Make, settings_of, stored

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "rliable.json").read_text())
KINDS = ("returns", "profile", "improvement", "efficiency")  # of pictures


@pytest.mark.parametrize("name", GOLDEN)
def test_aggregates_intervals_improvement_and_profile_are_those_of_rliable(name: str) -> None:
    case, generator = GOLDEN[name], np.random.default_rng(0)
    run, other = (np.array(case[part])[..., None] for part in ("run", "other"))
    counts, others = (resampled_counts(values.shape[:3], generator, 4000) for values in (run, other))
    low, high = percentile_interval(resampled_aggregate(run, counts))
    np.testing.assert_allclose(aggregate(run)[0], case["iqm"][0], rtol=1e-12)
    np.testing.assert_allclose([low[0], high[0]], case["iqm"][1:], atol=0.05)
    better = improvement(run, other, counts, others)
    np.testing.assert_allclose(better.value[0], case["improvement"][0], rtol=1e-12)
    np.testing.assert_allclose([better.low[0], better.high[0]], case["improvement"][1:], atol=0.04)
    profile = performance_profile(run[..., 0], np.array(case["levels"]), counts)
    np.testing.assert_allclose(profile.value, case["profile"][0], atol=1e-12)


def test_counted_resamples_are_distributed_as_gathered_ones(make_result: Make) -> None:
    returns = np.stack([make_result([5.0, 9.0], n_trials=8, seed=seed).returns for seed in range(4)])
    generator = np.random.default_rng(0)
    counted = resampled_aggregate(returns, resampled_counts(returns.shape[:3], generator, 4000))
    gathered = bootstrap(returns, generator, 4000)
    np.testing.assert_allclose(counted.mean(axis=0), gathered.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(percentile_interval(counted), percentile_interval(gathered), atol=0.04)


def test_every_form_of_the_report_comes_out_of_stored_results(tmp_path: Path, make_result: Make) -> None:
    for recipe in METHODS:
        for seed in (0, 1):
            stored(tmp_path / "results", make_result, recipe, seed)
    out, aside = tmp_path / "report", tmp_path / "results" / "mappo" / "s0.old1"  # as ``resume=never`` leaves it
    shutil.copytree(tmp_path / "results" / "mappo" / "s0", aside)
    assert program.main(["report", str(tmp_path / "results"), f"out={aside / 'film.gif'}"]) == 2
    assert program.main(["report", str(tmp_path / "results"), f"out={out}", "resamples=200"]) == 0
    with (out / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    of = {(row["method"], row["quantity"] + row["over"], row["k"]): float(row["value"]) for row in rows}
    assert {method for method, *_ in of} == {"none", "oracle", "rl2", "mg2l_kalei"}
    assert of["mg2l_kalei", "score", "1"] == pytest.approx(0.8, abs=0.1)
    assert of["rl2", "score", "1"] == pytest.approx(0.3, abs=0.1)
    assert of["oracle", "improvementnone", "1"] == 1.0
    assert of["rl2", "improvementmg2l_kalei", "1"] == pytest.approx(1 - of["mg2l_kalei", "improvementrl2", "1"])
    page = (out / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 4 and not re.search(r'(src|href)="https?:', page)
    links = re.findall(r'href="(\.\./[^"]+)"', page)
    assert len(links) == 16 and all((out / link).is_file() for link in links), "settings and film of each run"
    assert len(list((out / "figures").glob("*.pdf"))) == len(list((out / "figures").glob("*.png"))) == 4
    marl_eval = json.loads((out / "marl_eval.json").read_text())["named"]["test"]["mg2l_kalei"]["seed_1"]
    assert len(marl_eval["absolute_metrics"]["return_k0"]) == 3 * 8 and marl_eval["step_0"]["step_count"] > 0
    for name, row in (("report.tex", r"mg2l\_kalei & "), ("report.md", "| mg2l_kalei | ")):
        lines = (out / name).read_text().splitlines()
        assert sum(line.startswith(row) for line in lines) == 2  # in the table of estimates, and in that of pairs
        assert any("P(row better than column), k = 1" in line for line in lines)
    assert to_latex([]) == "\n"


def test_what_adapting_costs_is_a_picture_with_a_line_of_all_numbers_of_steps(make_result: Make) -> None:
    runs = [
        StoredRun(Path(), Path(), {"algo": algo, "encoder.kind": kind}, "", (make_result([1.0, 2.0]),), (), (), ())
        for algo, kind in (("mg2l", "mg2l"), ("mappo+finetune-500", "none"), ("mappo+finetune-100", "none"))
    ]
    (section,) = sections_of(runs, 100)
    (axes,) = figures_of(section)["cost"]().axes
    assert [np.array(line.get_xdata()).tolist() for line in axes.lines] == [[0, 20], [100, 500]]


def test_methods_that_differ_in_more_than_steps_on_each_task_are_lines_of_their_own(make_result: Make) -> None:
    settings = [
        {"algo": algo, "encoder.kind": "none", "learner.actor_lr": lr}
        for algo, lr in (("x-10+finetune-10", 1.0), ("x-10+finetune-50", 1.0), ("x-10+finetune-50", 2.0))
    ]
    runs = [StoredRun(Path(), Path(), each, "", (make_result([1.0]),), (), (), ()) for each in settings]
    assert [(method.label, method.line) for method in methods_of(runs)] == [
        ("x-10+finetune-10", "x-10+finetune"),
        ("x-10+finetune-50", "x-10+finetune"),
        ("x-10+finetune-50 learner.actor_lr=2.0", "x-10+finetune learner.actor_lr=2.0"),
    ]


OLD, OFF, ON = "", ", tells_agents_apart: false}\nworld_model: {kind: none", ", tells_agents_apart: true"


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ((OLD, OFF, ON), [("mg2l_kalei", 2), ("mg2l_kalei encoder.tells_agents_apart=true", 1)]),
        ((ON, OLD, OFF), [("mg2l_kalei", 1), ("mg2l_kalei encoder.tells_agents_apart=false", 2)]),
    ],
)
def test_seeds_of_two_releases_are_one_method_unless_a_setting_that_came_between_them_matters(
    tmp_path: Path, make_result: Make, kept: Sequence[str], expected: list[tuple[str, int]]
) -> None:
    for seed, new in enumerate(kept):
        result = make_result([1.0, 2.0], n_trials=8)._replace(seed=seed, latents=None)
        (tmp_path / f"x{seed}-s{seed}.json").write_text(to_json(result))
        text = settings_of("mg2l_kalei").replace("{kind: mg2l}", f"{{kind: mg2l{new}}}")
        (tmp_path / f"x{seed}.yaml").write_text(text)
    methods = methods_of(find_runs([str(tmp_path)], SCHEMA))
    assert [(method.label, len(method.runs)) for method in methods] == expected


def test_what_merely_watches_a_run_makes_no_other_method() -> None:
    often, seldom = (
        identifying({"seed": seed, "world_model": {"kind": "continuous", "score_interval": n, "width": 8}}, SCHEMA)
        for seed, n in ((0, 1), (1, 9))
    )
    assert often == seldom and often["world_model.width"] == 8


def test_evaluations_on_other_tasks_of_the_family_and_what_was_set_aside_are_no_runs(
    tmp_path: Path, make_result: Make
) -> None:
    own = stored(tmp_path / "results", make_result, "mappo", 0)
    result = make_result([1.0, 2.0], n_trials=8)
    (own / "tasks.json").write_text(json.dumps({"fingerprint": result.fingerprint}))
    (own / "evaluation" / "ood-on-named.json").write_text(
        to_json(result._replace(split="ood", fingerprint="others", latents=None))
    )
    aside = own.parent / "s0.old1"
    shutil.copytree(own, aside / "finetune-10")
    (run,) = find_runs([str(tmp_path)], SCHEMA)
    assert run.path == own and [each.split for each in run.results] == ["test"]


def test_a_second_report_takes_the_pictures_of_the_first_away_and_nothing_else(
    tmp_path: Path, make_result: Make
) -> None:
    first, second, out = (tmp_path / name for name in ("first", "second", "out"))
    stored(first, make_result, "mappo", 0)
    stored(first, make_result, "oracle", 0)
    stored(second, make_result, "mappo", 0, family="other")
    (second / "mappo" / "s0" / "config.yaml").write_text(settings_of("mappo").replace("named", "other"))
    assert program.main(["report", str(first), f"out={out}", "resamples=100"]) == 0
    assert {path.stem for path in (out / "figures").glob("*.p*")} == {f"named-test-{of}" for of in KINDS}
    (out / "figures" / "my-own.png").write_bytes(b"mine")
    assert program.main(["report", str(second), f"out={out}", "resamples=100"]) == 0
    left = {path.name for path in (out / "figures").iterdir() if path.suffix == ".png"}
    assert left == {"my-own.png", *(f"other-test-{of}.png" for of in KINDS if of != "improvement")}


def test_published_files_are_read_beside_their_settings(
    tmp_path: Path, make_result: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    result = make_result([1.0, 2.0], n_trials=8)._replace(latents=None)
    (tmp_path / "x-s0-test.json.gz").write_bytes(gzip.compress(to_json(result).encode()))
    (tmp_path / "x-s0-last.json").write_text("{}")
    words = ["report", str(tmp_path), f"out={tmp_path / 'out'}", "resamples=100"]
    assert program.main(words) == 2 and "x.yaml" in capsys.readouterr().err
    (tmp_path / "x.yaml").write_text(settings_of("mappo"))
    assert program.main(words) == 0 and "1 runs, 1 tables" in capsys.readouterr().out
    held_out = tmp_path / "x-s0-train.json"
    held_out.write_text(to_json(result._replace(split="train")))
    files = [str(tmp_path / "x-s0-test.json.gz"), str(held_out)]
    assert program.main(["report", *files, *words[2:]]) == 0
    assert "1 runs, 2 tables" in capsys.readouterr().out  # one run, though its files were named one by one
    (tmp_path / "y-s0.json").write_text(to_json(result))
    assert program.main(words) == 0
    assert "1 lines without settings are left out; the first lacks y.yaml" in capsys.readouterr().out
    (tmp_path / "x-s0.json").write_text(to_json(result))
    assert program.main(words) == 2
    assert "are both of seed 0 and split test" in capsys.readouterr().err


FAMILIES: dict[str, tuple[str, ...]] = {"a": ("train", "test"), "b": ("train", "test"), "c": ("train", "test")}
FAMILIES |= {name: ("train", "test", "ood") for name in ("d", "e")}


def stored_as_large(folder: Path, family: str, recipe: str, seed: int, like: AdaptationResult) -> None:
    """A run of 24 tasks, 8 trials of 3 episodes each, that logged 160 lines, every fourth of an evaluation."""
    noise, level = np.random.default_rng([*map(ord, family), seed]), METHODS[recipe][-1]
    (folder / "evaluation").mkdir(parents=True)
    (folder / "config.yaml").write_text(settings_of(recipe).replace("named", family))
    for split in FAMILIES[family]:
        returns = (level + 3 * noise.normal(size=(24, 8, 3))).astype(np.float32)
        steps = noise.random(size=(24, 300)).astype(np.float32)
        parts: dict[str, Any] = {
            "returns": returns,
            "sampled_returns": returns,
            "step_reward": steps,
            "step_reward_error": steps,
        }
        text = to_json(like._replace(family=family, split=split, seed=seed, **parts))
        (folder / "evaluation" / f"{split}.json").write_text(text)
    noted = dict.fromkeys((f"train/m{j}" for j in range(40)), 1 / 7)
    of_split = {f"evaluation/{split}/return_k2": level for split in FAMILIES[family]}
    rows = [{"iteration": i, "env_steps": 100 * i, **noted, **(of_split if i % 4 == 0 else {})} for i in range(1, 161)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
def test_two_hundred_runs_take_seconds(tmp_path: Path, make_result: Make) -> None:
    tasks = tuple(f"task {i}" for i in range(24))
    like = make_result([0.0, 0.0], n_trials=2)._replace(tasks=tasks, latents=None, episode_steps=100)
    for family, recipe, seed in product(FAMILIES, METHODS, range(10)):
        stored_as_large(tmp_path / "results" / family / recipe / f"s{seed}", family, recipe, seed, like)
    started = sum(os.times()[:4])
    assert program.main(["report", str(tmp_path / "results"), f"out={tmp_path / 'out'}"]) == 0
    assert sum(os.times()[:4]) - started < 20  # seconds of all processors, children's too
    assert len(list((tmp_path / "out" / "figures").glob("*.png"))) == 12 * 4


def test_won_episodes_of_all_tasks_are_put_together(make_result: Make) -> None:
    results = [
        make_result([1.0], n_tasks=1, n_trials=2)._replace(won=np.full((1, 2, 1), float(i), np.float32))
        for i in range(3)
    ]
    together = _together(results)
    assert together.won is not None and together.won.shape == together.returns.shape and together.won.mean() == 1.0
