"""Do the guides' examples in Python run, and do the seams carry what they add?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train
from envs import ENVS
from envs.check import check_family
from mg2l_kalei.encoders.poolings import POOLINGS
from mg2l_kalei.sharing import SHARINGS
from mg2l_kalei.training.plugins import load_plugins
from tests.learners import test_registry as learner_tests
from tests.small_runs import folder_of, remains

ROOT = Path(__file__).parents[1]
TEXTS = [(ROOT / "docs/guides" / name).read_text() for name in ("runs.md", "add-your-own.md", "families-elsewhere.md")]
FOUND = [block for text in TEXTS for block in re.findall(r"```(?:python|yaml)\n(.*?)```", text, re.DOTALL)]
BLOCKS = {block.splitlines()[0]: block for block in FOUND}

USE = "# a trained team in five lines; RUN_DIR is the folder that train.py printed"
ELSEWHERE = "# a wind for PettingZoo, sixty-four winds for Gymnasium"
FILES = [block for block in BLOCKS if block.startswith("# my_lab/")]


def use(run_dir: Path) -> dict[str, Any]:
    """What the README's example defines, on a run of the guide's plugin."""
    names: dict[str, Any] = {"RUN_DIR": run_dir}
    exec(BLOCKS[USE].replace("(RUN_DIR", '(RUN_DIR, plugins=["my_lab"]'), names)
    return names


@pytest.fixture(autouse=True)
def my_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_plugins_left: None) -> None:
    """The guide's plugin, in the working directory."""
    for block in FILES:
        path = tmp_path / "here" / block.removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(BLOCKS[block])
    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path / "here")
    load_plugins(["my_lab"])


def test_examples_take_at_most_40_lines_of_code() -> None:
    assert {*FILES, USE, ELSEWHERE} == BLOCKS.keys()
    for block in BLOCKS.values():
        code = [line for line in block.splitlines() if line.strip() and not line.startswith(("#", "import", "from"))]
        assert len(code) <= 40, block.splitlines()[0]


def test_the_family_keeps_the_contract() -> None:
    family_class, config = ENVS["levers"]
    assert check_family(family_class("levers", config, np.random.default_rng(0))) == []


def test_family_and_encoder_train_and_the_run_acts(tmp_path: Path) -> None:
    words = ["plugins=my_lab", "--algo=mappo", "--env=levers", "encoder=payoff", "n_iters=12", "n_rows=16"]
    words.append(f"results_dir={tmp_path}")
    assert train.main([*words, "trial_steps=20", "actor_lr=5e-3", "eval_trials=8", "eval_interval=0"]) == 0
    (config,) = tmp_path.glob("*/*/*/config.yaml")
    acted = use(config.parent)
    assert acted["action"].shape == (4, 2)
    assert acted["action"].dtype == torch.int64


@pytest.mark.parametrize(
    ("learner", "sharing"), [("reinforce", "full"), ("reinforce", "own_bias"), ("mappo", "own_bias")]
)
def test_learner_and_sharing_scheme_keep_what_all_owe(
    learner: str, sharing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests of the registries, on what the guide adds."""
    spec = learner_tests.SPECS["discrete"]
    learner_tests.test_a_restored_learner_makes_the_same_next_update_bit_for_bit(learner, sharing, spec)
    learner_tests.test_gradients_that_others_left_behind_do_not_matter(learner, sharing, spec)
    learner_tests.test_illegal_actions_are_never_taken(learner, sharing)
    learner_tests.test_metrics_are_finite_numbers_under_their_groups_names(learner, sharing, spec)
    monkeypatch.setitem(learner_tests.FAST, "reinforce", {"hidden": (32, 32), "lr": 4e-2})
    learner_tests.test_every_scheme_learns_the_turns(learner, sharing)


def test_members_with_own_biases_come_to_differ() -> None:
    sharing_class, config = SHARINGS["own_bias"]
    layer = sharing_class(config, (0, 1, 1), torch.Generator().manual_seed(0)).linear(4, 5, gain=1.0)
    x = torch.ones(2, 3, 4)
    assert torch.equal(layer(x)[:, 0], layer(x)[:, 1])
    layer(x)[:, 1].sum().backward()
    assert layer.bias.grad is not None and layer.bias.grad.tolist() == [[0.0] * 5, [2.0] * 5]


def test_the_pooling_steps_as_it_looks_at_whole_trials() -> None:
    generator = torch.Generator().manual_seed(0)
    pooling = POOLINGS["mean"](None, 6, generator)
    embeddings, alive = torch.randn(7, 3, 6, generator=generator), torch.rand(7, 3, generator=generator) < 0.7
    state = pooling.initial((3,))
    read = [pooling.read(state)]
    for embedding, is_there in zip(embeddings, alive, strict=True):
        state = pooling.add(state, embedding, is_there)
        read.append(pooling.read(state))
    torch.testing.assert_close(torch.stack(read), pooling.prefixes(embeddings, torch.arange(8), alive))


def test_a_run_of_all_of_them_stops_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    choice = "plugins=my_lab --env=levers learner=reinforce sharing=own_bias encoder.pooling=mean"
    small = "n_rows=4 episode_steps=4 encoder.hidden=[8] n_heads=2 network.hidden=[8] context.batch=4 context.length=4 "
    small += (
        "context.n_updates=2 context.n_early_iterations=0 replay.capacity=8 eval_trials=2 eval_interval=2 n_threads=1"
    )
    left = []
    for name, lengths in (("whole", [4]), ("in two parts", [2, 4])):
        for n_iters in lengths:
            words = [*choice.split(), *small.split(), f"n_iters={n_iters}", f"results_dir={tmp_path / name}"]
            assert train.main(words) == 0
        left.append(remains(folder_of(words)))
    assert left[0] == left[1]


def test_families_are_played_elsewhere() -> None:
    names: dict[str, Any] = {}
    exec(BLOCKS[ELSEWHERE], names)
    assert names["rewards"].shape == (64,) and not names["env"].agents
