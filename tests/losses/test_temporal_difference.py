"""Are targets of TD(lambda) those by hand, and does nothing run on over ends and cuts?"""

from __future__ import annotations

import pytest
import torch

from mg2l_kalei.losses.temporal_difference import lambda_targets

GAMMA = 0.5
REWARD = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
NEXT_VALUE = torch.tensor([[10.0], [20.0], [30.0], [40.0]])


def targets(td_lambda: float, *, terminated: int | None = None, cut: int | None = None) -> list[float]:
    """Of four steps, of which one may end the task, or be cut off from those after it; the last always is."""
    step = torch.arange(4).unsqueeze(-1)
    is_cut = (step == 3) | (step == (-1 if cut is None else cut))
    is_over = step == (-1 if terminated is None else terminated)
    found = lambda_targets(REWARD, NEXT_VALUE, is_over, is_cut, gamma=GAMMA, td_lambda=td_lambda)
    return found.flatten().tolist()


def test_lambda_0_looks_one_step_ahead() -> None:
    assert targets(0.0) == [6.0, 12.0, 18.0, 24.0]


def test_lambda_1_adds_up_what_is_paid_until_the_cut() -> None:
    last = 4 + 0.5 * 40
    third = 3 + 0.5 * last
    second = 2 + 0.5 * third
    assert targets(1.0) == [1 + 0.5 * second, second, third, last]


def test_between_them_it_mixes_both_at_every_step() -> None:
    last = 4 + 0.5 * 40
    third = 3 + 0.5 * (0.75 * 30 + 0.25 * last)
    second = 2 + 0.5 * (0.75 * 20 + 0.25 * third)
    first = 1 + 0.5 * (0.75 * 10 + 0.25 * second)
    assert targets(0.25) == pytest.approx([first, second, third, last])


@pytest.mark.parametrize("td_lambda", [0.0, 0.25, 1.0])
def test_nothing_follows_a_termination_and_the_true_successor_a_cut(td_lambda: float) -> None:
    usual, over, cut = targets(td_lambda), targets(td_lambda, terminated=1), targets(td_lambda, cut=1)
    assert over[1] == 2.0 and cut[1] == 2 + 0.5 * 20
    assert over[2:] == cut[2:] == usual[2:]
    assert over[0] == pytest.approx(1 + 0.5 * ((1 - td_lambda) * 10 + td_lambda * 2))
