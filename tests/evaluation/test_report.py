"""Does the table say what was measured, on which tasks, against what, and how far to believe it?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mg2l_kalei.evaluation.comparison import Comparison, compare
from mg2l_kalei.evaluation.report import adaptation_table
from mg2l_kalei.evaluation.results import AdaptationResult

MakeResult = Callable[..., AdaptationResult]


def _compare(run: list[AdaptationResult], **references: list[AdaptationResult]) -> Comparison:
    return compare("ours", run, references, np.random.default_rng(0))


def _row(table: str, label: str) -> str:
    return next(line for line in table.splitlines() if line.startswith(label))


def test_lines_stand_from_oracle_to_none_with_score_and_gap(make_result: MakeResult) -> None:
    none, oracle = make_result([-100.0, -100.0], seed=1), make_result([-50.0, -100.0], seed=2)
    table = adaptation_table(_compare([make_result([-75.0, -75.0])], none=[none], oracle=[oracle]))
    labels = [line.split("  ")[0] for line in table.splitlines()]
    assert labels.index("oracle") < labels.index("ours") < labels.index("none")
    assert "k = 0" in table and "k = 1" in table
    assert "-75." in _row(table, "ours") and "-50." in _row(table, "oracle")
    assert _row(table, "score of ours").split("   ")[-1].strip() == "no gap", "at k = 1 oracle equals none"
    assert " 0.5" in _row(table, "score of ours") or " 0.4" in _row(table, "score of ours")
    assert "50 %" in _row(table, "  in % of |none|")


@pytest.mark.parametrize("given", [(), ("none",), ("oracle",)])
def test_missing_references_leave_out_the_score_alone(make_result: MakeResult, given: tuple[str, ...]) -> None:
    table = adaptation_table(_compare([make_result([-75.0])], **{name: [make_result([-60.0])] for name in given}))
    assert "score" not in table
    assert all(_row(table, name) for name in given)


def test_few_seeds_are_marked_preliminary_and_five_are_not(make_result: MakeResult) -> None:
    one, four, five = ([make_result([0.0], seed=seed, n_trials=8) for seed in range(n)] for n in (1, 4, 5))
    assert "preliminary (1 seed < 5)" in adaptation_table(_compare(one))
    assert "preliminary (4 seeds < 5)" in adaptation_table(_compare(four))
    assert "preliminary" not in adaptation_table(_compare(five))
    assert "preliminary (1 seed < 5)" in adaptation_table(_compare(five, none=one)), "the weakest line decides"
    assert "single seed" in adaptation_table(_compare(one))
    assert "single seed" not in adaptation_table(_compare(four))


def test_the_title_says_which_tasks(make_result: MakeResult) -> None:
    result = make_result([0.0])
    assert "named, test tasks: 3 tasks x 32 trials" in adaptation_table(_compare([result]))
    assert "named, seen tasks:" in adaptation_table(_compare([result._replace(seen_only=True)]))


def test_other_tasks_or_training_lengths_of_a_reference_are_told(make_result: MakeResult) -> None:
    reference = make_result([0.0])._replace(fingerprint="others", env_steps=5)
    table = adaptation_table(_compare([make_result([0.0])], none=[reference]))
    assert "none was evaluated on other tasks than ours" in table
    assert "none was trained for another number of steps than ours" in table


def test_tasks_of_several_seeds_are_told_apart_only_where_they_are_the_same(make_result: MakeResult) -> None:
    same = [make_result([1.0, 5.0], seed=seed) for seed in (0, 1)]
    assert "ours by task" in adaptation_table(_compare(same))
    table = adaptation_table(_compare([same[0], same[1]._replace(fingerprint="others")]))
    assert "ours by task" not in table and "seeds of ours have tasks of their own" in table


def test_a_team_that_is_paid_nothing_has_no_share(make_result: MakeResult) -> None:
    none, oracle = (make_result([level, level]) for level in (0.0, 1.0))
    none = none._replace(returns=np.zeros_like(none.returns))
    table = adaptation_table(_compare([oracle], none=[none], oracle=[oracle]))
    assert "%" not in _row(table, "  in % of |none|").replace("in % of", "")


def test_what_cannot_be_compared_is_refused(make_result: MakeResult) -> None:
    run = make_result([0.0, 0.0])
    with pytest.raises(ValueError, match=r"none: .*'other'.*'named'"):
        _compare([run], none=[run._replace(family="other")])
    with pytest.raises(ValueError, match="oracle: "):
        _compare([run], oracle=[make_result([0.0])])
    with pytest.raises(ValueError, match=r"none: .*'sampled'.*'mode'"):
        _compare([run], none=[run._replace(actions="sampled")])
    with pytest.raises(ValueError, match="seeds differ"):
        _compare([run, make_result([0.0, 0.0], n_trials=8)])


def test_of_a_single_task_nothing_is_probed(make_result: MakeResult) -> None:
    single = make_result([1.0, 2.0])
    single = single._replace(tasks=single.tasks[:1], returns=single.returns[:1])
    assert "probe" not in adaptation_table(_compare([single]))


def test_the_probe_stands_beside_chance(make_result: MakeResult) -> None:
    table = adaptation_table(_compare([make_result([0.0])]))
    probes = table[table.index("balanced accuracy") :]
    assert _row(probes, "balanced accuracy").split()[-3:] == ["1", "10", "39"]
    assert _row(probes, "ours ").split()[-1] == "1.00"
    assert _row(probes, "chance").split()[-1] == "0.33"


def test_many_tasks_do_not_flood_the_table(make_result: MakeResult) -> None:
    table = adaptation_table(_compare([make_result([0.0], n_tasks=12, n_trials=4)]))
    assert "task 9" in table and "task 10" not in table
    assert "... and 2 more tasks" in table


def test_columns_line_up_and_the_table_is_plain_text(make_result: MakeResult) -> None:
    table = adaptation_table(_compare([make_result([-1234.0, 5.0])], none=[make_result([-20000.0, 1.0])]))
    assert table.isprintable() or set(table) - set("\n") <= {chr(i) for i in range(32, 127)}
    header = next(line for line in table.splitlines() if "k = 0" in line)
    for label in ("ours", "none"):
        row = _row(table, label)
        assert row[header.index("k = 0") + len("k = 0") - 1] == "]", "cells end where their heading ends"
