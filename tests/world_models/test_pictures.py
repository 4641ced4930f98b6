"""Is what is drawn of a real episode and of an imagined one what they were?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from envs import ENVS
from mg2l_kalei.evaluation.imagination import (
    Trajectories,
    imagination_figure,
    imagination_title,
    imagined_beside,
)
from mg2l_kalei.types import Rollout
from tests.small_systems import generator
from tests.world_models import swirl


def test_one_episode_is_imagined_along_its_actions() -> None:
    steps, task = swirl.trials(5, 20)
    rollout = Rollout(steps, task, torch.zeros(20, 5, 2, 1))
    shown = imagined_beside(swirl.small_model(), swirl.oracle(), rollout, generator())
    rows = [row for row in range(5) if np.array_equal(shown.obs, steps.next_obs[:, row])]
    assert len(rows) == 1 and np.array_equal(shown.reward, steps.reward[:, rows[0]])
    assert shown.imagined_obs.shape == (20, 2, 2) and shown.imagined_reward.shape == (20, 2)


def test_what_is_imagined_is_dashed_beside_what_was() -> None:
    drawn = np.random.default_rng(0).normal(size=(2, 6, 2, 5))
    figure = imagination_figure(Trajectories(drawn[0], drawn[1], drawn[0, ..., 0], drawn[1, ..., 0]), "title", 3)
    assert len(figure.axes) == 4  # observations and rewards of two agents
    lines = [line for line in figure.axes[0].get_lines() if np.size(line.get_xdata()) == 6]
    entries = np.argsort(-drawn[0, :, 0].std(axis=0))[:4]
    for number, entry in enumerate(entries):
        real, imagined = lines[2 * number : 2 * number + 2]
        assert np.array_equal(real.get_ydata(), drawn[0, :, 0, entry]) and real.get_linestyle() == "-"
        assert np.array_equal(imagined.get_ydata(), drawn[1, :, 0, entry]) and imagined.get_linestyle() == "--"


@pytest.mark.parametrize("n_agents", [1, 2, 5])
def test_its_title_is_not_cut_off(n_agents: int) -> None:
    drawn = np.zeros((6, n_agents, 5))
    title = imagination_title(max(ENVS, key=len), "train", 16)
    figure = imagination_figure(Trajectories(drawn, drawn, drawn[..., 0], drawn[..., 0]), title, 3)
    FigureCanvasAgg(figure).draw()
    (heading,) = (text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text() == title)
    box = heading.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
