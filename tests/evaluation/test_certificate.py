"""Does a family pass where its task is worth knowing and inferable, and does it fail, or say nothing, where not?"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.families import rows
from mg2l_kalei import __main__ as program
from mg2l_kalei.commands.certify import closed
from mg2l_kalei.evaluation.certificate import Certificate, Gap, certify
from mg2l_kalei.evaluation.probe import ProbeReadings
from mg2l_kalei.evaluation.results import AdaptationResult, to_json
from mg2l_kalei.grid import combinations, planned

ROOT = Path(__file__).parents[2]
CORE = ROOT / "config" / "grid" / "core.yaml"
UNSETTLED = {"mpe-world-tasks"}  # passes by one seed, and few trials pay most of its returns
NAME = "toy-corners"
STEPS = (1, 10, 25, 99)
AT_CHANCE, TOLD = ((1 / 3, 1 / 3),) * 4, ((0.4, 0.4), (0.9, 0.8), (1.0, 0.96), (1.0, 1.0))
GIVEN = ((1.0, 1.0),) * 4
SETTINGS = {  # recipe: encoder, memory
    "mappo": ("none", "none"),
    "recurrent": ("none", "episode"),
    "rl2": ("none", "trial"),
    "oracle": ("oracle", "none"),
    "mg2l_kalei": ("mg2l", "none"),
    "centralised": ("mg2l, actors_see: global", "none"),
}

Results = list[AdaptationResult]


def results(level: float, *splits: str, spread: float = 0.0, probe: Sequence[Sequence[float]] = AT_CHANCE) -> Results:
    """Two seeds with this return on average, ``spread`` apart, on 3 tasks of each split."""
    noise = np.random.default_rng(0)
    return [
        AdaptationResult(
            family=NAME,
            split=split,
            seen_only=False,
            tasks=("a", "b", "c"),
            fingerprint="same tasks",
            seed=seed,
            env_steps=1000,
            episode_steps=50,
            returns=(level + spread * (seed - 0.5) + noise.normal(size=(3, 8, 2))).astype(np.float32),
            sampled_returns=None,
            step_reward=np.zeros((3, 1), dtype=np.float32),
            step_reward_error=np.zeros((3, 1), dtype=np.float32),
            probe=ProbeReadings(STEPS, np.array(probe), 1 / 3),
            latents=None,
        )
        for split in splits or ("train", "test")
        for seed in (0, 1)
    ]


def judged(none: Results, oracle: Results, **inferring: Results) -> Certificate:
    return certify({"none": none, "oracle": oracle}, inferring)


@pytest.mark.parametrize(
    ("none", "oracle", "passes"),
    [
        (results(-100), results(-50), [True, True]),
        (results(-100), results(-70), [False, False]),  # apart, but 30 % only
        (results(-100), results(-50, "train") + results(-90, "test"), [True, False]),
        (results(-50), results(-100), [False, False]),  # the oracle is behind
        (results(-100, spread=150), results(-50, spread=150), [False, False]),  # 50 %, within what seeds differ
        (results(0.0), results(5.0), [True, True]),
    ],
)
def test_a_split_passes_by_a_gap_that_is_large_and_apart(none: Results, oracle: Results, passes: list[bool]) -> None:
    certificate = judged(none, oracle)
    assert [of.is_passed for of in certificate.splits] == passes
    assert certificate.is_passed == all(passes)


def test_what_was_not_played_is_not_passed_but_where_there_is_nothing_held_out() -> None:
    none, oracle = results(-100, "train"), results(-50, "train")
    certificate = judged(none, oracle)
    assert [(of.split, of.is_passed) for of in certificate.splits] == [("train", True), ("test", False)]
    finite = judged(*([result._replace(seen_only=True) for result in of] for of in (none, oracle)))
    assert [of.split for of in finite.splits] == ["train"] and finite.is_passed
    assert not judged(results(-100), oracle).is_passed, "the oracle was not played on held-out tasks"
    assert not judged(results(-100, "train", "ood"), results(-50, "train", "ood")).is_passed, "neither was here"


def test_tasks_out_of_range_are_judged_and_decide_nothing() -> None:
    none, oracle = results(-100, "train", "test", "ood"), results(-50, "train", "test") + results(-95, "ood")
    certificate = judged(none, oracle)
    assert [of.is_passed for of in certificate.splits] == [True, True, False] and certificate.is_passed


@pytest.mark.parametrize(("level", "is_left"), [(-95, True), (-60, False)])
def test_memory_within_an_episode_leaves_a_gap_or_closes_it(level: float, is_left: bool) -> None:
    lines = {"none": results(-100), "oracle": results(-50), "memory": results(level)}
    left = [of.left_by_memory for of in certify(lines, {}).splits]
    assert all(gap is not None and gap.is_enough == is_left for gap in left)
    assert judged(results(-100), results(-50)).splits[0].left_by_memory is None


@pytest.mark.parametrize(
    ("share", "is_apart", "answer"),
    [(0.8, True, "no"), (0.1, True, "yes"), (-0.1, False, "yes"), (0.8, False, "not known")],
)
def test_a_gap_whose_intervals_overlap_does_not_say_that_memory_closes_it(
    share: float, is_apart: bool, answer: str
) -> None:
    assert closed(Gap(share, is_apart)) == answer


def test_how_soon_and_to_whom_the_task_shows() -> None:
    one_blind = [(first, 0.4) for first, _ in TOLD]
    certificate = judged(
        results(-100),
        results(-50, probe=GIVEN),
        told=results(-60, probe=TOLD),
        blind=results(-60, probe=one_blind),
        chance=results(-100, probe=AT_CHANCE),
    )
    told, blind, chance = certificate.splits[0].telling.values()
    assert (told.steps, told.is_known_to_each) == (25, True), "0.85 after 10 steps is no 0.9 of the way from 1/3 to 1"
    assert (blind.is_known, blind.is_known_to_each) == (True, None)
    assert (chance.steps, chance.is_known, chance.is_known_to_each) == (None, False, None)
    hardly = ((0.36, 0.36),) * 4
    nobody = judged(results(-100), results(-50, probe=hardly), run=results(-60, probe=hardly))
    assert nobody.splits[0].telling["run"].is_known_to_each is None, "a probe that reads nothing compares nothing"
    unread = judged(results(-100), results(-50), told=results(-60, probe=np.full((4, 2), np.nan).tolist()))
    assert unread.splits[0].telling["told"].steps is None


@pytest.mark.parametrize(("team", "answer"), [(GIVEN, False), (AT_CHANCE, None), (((0.68, 0.68),) * 4, True)])
def test_one_agent_alone_is_measured_against_all_together(team: Sequence[Sequence[float]], answer: bool | None) -> None:
    lines = {"none": results(-100), "oracle": results(-50, probe=GIVEN), "centralised": results(-55, probe=team)}
    certificate = certify(lines, {"run": results(-70, probe=((0.68, 0.66),) * 4)})
    assert [of.telling["run"].is_known_to_each for of in certificate.splits] == [answer] * 2


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., str]:
    """Write the seeds of a recipe as folders of runs, and name the folder that holds them."""

    def write(recipe: str, of: Results, place: str = "runs") -> str:
        encoder, memory = SETTINGS[recipe]
        folder = tmp_path / place / recipe
        for result in of:
            run = folder / f"s{result.seed}"
            (run / "evaluation").mkdir(parents=True, exist_ok=True)
            kind = result.family
            text = f"algo: {recipe}\nenv: {{kind: {kind}}}\nencoder: {{kind: {encoder}}}\nsharing: {{kind: full}}\n"
            (run / "config.yaml").write_text(f"{text}network: {{memory: {memory}}}\n")
            (run / "evaluation" / f"{result.split}.json").write_text(to_json(result))
        return str(folder)

    return write


def test_the_command_reads_lines_off_the_runs_settings(
    stored: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for recipe, of in {"mappo": results(-100), "oracle": results(-50, probe=GIVEN), "rl2": results(-70)}.items():
        stored(recipe, of)
    certifying = ["tasks", "certify", NAME, str(tmp_path / "runs")]
    assert program.main(certifying) == 0
    first = capsys.readouterr().out
    assert first.splitlines()[-1] == f"{NAME} passes: the task is worth at least 40 % of |none|"
    assert all(
        len(line.split("not measured")) == 3 for line in first.splitlines() if "?" in line and "worth" not in line
    )
    stored("recurrent", results(-95))
    stored("mg2l_kalei", results(-60, probe=TOLD))
    stored("centralised", results(-55, probe=GIVEN))
    assert program.main(certifying) == 0
    lines = filter(None, capsys.readouterr().out.splitlines())
    shown = {line.split("  ")[0]: line.split()[-1] for line in lines}
    assert shown["is memory within an episode enough?"] == "no"
    assert shown["probe of z, of all agents together"] == "1.00"
    assert shown["mg2l_kalei: can one agent alone tell the task?"] == "yes"
    assert shown["mg2l_kalei: steps within which it shows"] == "25"
    for result in results(-80, probe=AT_CHANCE):
        watched = result._replace(actions="by random")
        (tmp_path / f"runs/mg2l_kalei/s{result.seed}/evaluation/{result.split}-by-random.json").write_text(
            to_json(watched)
        )
    assert program.main(certifying) == 0
    shown = {line.split("  ")[0]: line.split()[-1] for line in filter(None, capsys.readouterr().out.splitlines())}
    assert shown["mg2l_kalei: steps within which it shows"] == "25"
    assert shown["mg2l_kalei, of play by random: steps within which it shows"] == "measured"  # not measured
    assert shown["mg2l_kalei, of play by random: probe of z^i; worst agent"] == "0.33"
    stored("oracle", results(-70, "test"))
    assert program.main(certifying) == 1
    failed = capsys.readouterr().out
    assert "does not pass, expected at least 40 % of |none|: held-out tasks 30 %" in failed
    assert re.search("is memory within an episode enough\\? +no +no gap\n", failed), "there is nothing to be closed"


def test_what_cannot_be_judged_is_refused_in_a_line(
    stored: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none, oracle = stored("mappo", results(-100)), stored("oracle", results(-50))
    again = stored("oracle", results(-50), "again")
    for config in Path(again).rglob("config.yaml"):
        config.write_text(config.read_text() + "gamma: 0.5\n")
    foreign = stored("mappo", [each._replace(family="toy-turns") for each in results(-100)], "foreign")
    wrong = {
        (): f"tasks certify {NAME}: expected folders of runs, or files of raw results",
        (none,): "no run is the line oracle: a gap needs both",
        (none, oracle, again): "are both the line oracle, and no seeds of each other: expected one",
        (foreign, oracle): f"s0 is a run on toy-turns, expected {NAME}",
        (none, "orcale=there"): "orcale=there: no such option",
        (str(tmp_path / "nowhere"),): "holds no evaluated run",
    }
    for words, line in wrong.items():
        assert program.main(["tasks", "certify", NAME, *words]) == 2
        shown = capsys.readouterr()
        assert shown.out == "" and shown.err.count("\n") == 1 and line in shown.err, shown.err
    for unnamed in ([], ["toy-cornrs", none]):
        assert program.main(["tasks", "certify", *unnamed]) == 2
        assert capsys.readouterr().err.count("\n") == 1


# --- what was found ---------------------------------------------------------------------------------------------------


def test_the_page_has_what_the_raw_results_say_and_the_grid_has_those_that_pass() -> None:
    page = (ROOT / "docs" / "results" / "families.md").read_text()
    assert rows("mpe-hunting")[0] in page and rows("mujoco-cheetah-dir")[0] in page
    table = [[cell.strip() for cell in line.split("|")[1:]] for line in page.splitlines() if line.startswith("| `")]
    decisive: dict[str, list[bool]] = {family: [] for family, *_ in table}
    for family, tasks, *cells in table:
        decisive[family] += [cells[4] == "**yes**"] if tasks != "out of range" else []
    passing = {family.strip("`") for family, verdicts in decisive.items() if all(verdicts)}
    lines = combinations(CORE)
    runs = planned([words for words in lines if {"--algo=mg2l_kalei", "seed=0"} <= set(words)])
    assert {run.config.kinds["env"] for run in runs} == passing - UNSETTLED and len(lines) == 10 * len(runs)
