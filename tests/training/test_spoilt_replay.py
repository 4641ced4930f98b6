"""Is what spoils an update on replayed trials named and written, and the first batch, whatever comes after it?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mg2l_kalei.config import load
from mg2l_kalei.disk import tensor_file
from mg2l_kalei.disk.finite import NonFiniteError
from mg2l_kalei.learners.optimiser import Optimiser
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, build
from mg2l_kalei.types import Metrics
from tests.small_runs import tiny


@pytest.mark.parametrize(("algo", "name"), [("qmix", r"replayed\.steps\.reward"), ("matd3", r"replayed\.value")])
def test_a_replayed_trial_that_spoils_an_update_is_named_and_written(tmp_path: Path, algo: str, name: str) -> None:
    words = tiny(tmp_path, "toy-turns", algo, n_iters=2, learner__batch=8 if algo == "qmix" else 64)
    system = build(load(words, SCHEMA, CONFIG_DIR).config, torch.device("cpu"))
    trainer = MetaTrainer(system, tmp_path / "bad_batch.safetensors")
    trainer.iterate()
    assert trainer.replay is not None
    trainer.replay._trials["reward"][: len(trainer.replay)] = math.inf
    with pytest.raises(NonFiniteError, match=name):
        trainer.iterate()
    assert any(key.startswith("replayed.") for key in tensor_file.from_bytes(trainer.bad_batch.read_bytes()))


@pytest.mark.parametrize(("algo", "env"), [("qmix", "toy-turns"), ("matd3", "toy-corners")])
def test_of_several_batches_the_first_that_was_bad_is_written(
    tmp_path: Path, algo: str, env: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = {"learner__encoded_batches": 1, "learner__updates_per_step": 0.5} if algo == "matd3" else {}
    words = tiny(tmp_path, env, algo, n_iters=3, learner__batch=4, **batches)
    trainer = MetaTrainer(build(load(words, SCHEMA, CONFIG_DIR).config, torch.device("cpu")), tmp_path / "bad_batch")
    trainer.iterate(), trainer.iterate()
    replay, drawn = trainer.replay, []

    def draw(replay: Any, n: int, stream: torch.Generator) -> Tensor:
        """The spoilt trial first, and never again."""
        drawn.append(n)
        return torch.arange(n) if len(drawn) == 1 else torch.arange(1, n + 1)

    assert replay is not None
    replay._trials["reward"][0] = math.inf
    monkeypatch.setattr("mg2l_kalei.learners.replayed.draw_trials", draw)
    with pytest.raises(NonFiniteError, match=r"^replayed\."):
        trainer.iterate()
    assert len(drawn) > 1, "the last batch was another"


ONE_UPDATE: dict[str, dict[str, Any]] = {  # in each iteration of 16 steps
    "qmix": {"learner__updates_per_episode": 0.25},
    "matd3": {"learner__updates_per_step": 1 / 16, "learner__policy_delay": 1},
}


@pytest.mark.parametrize(
    ("algo", "env", "network"),
    [("qmix", "toy-turns", "actor"), ("matd3", "toy-corners", "critic"), ("matd3", "toy-corners", "actor")],
)
def test_a_gradient_that_is_not_finite_is_named_though_every_loss_is(
    tmp_path: Path, algo: str, env: str, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = tiny(tmp_path, env, algo, n_iters=2, learner__batch=4, **ONE_UPDATE[algo])
    trainer = MetaTrainer(build(load(words, SCHEMA, CONFIG_DIR).config, torch.device("cpu")), tmp_path / "bad_batch")
    trainer.iterate()
    step, spoilt_losses = Optimiser.step, []

    def spoilt(optimiser: Optimiser, loss: Tensor, **named: Any) -> Metrics:
        if optimiser.name == network:
            spoilt_losses.append(loss)
            loss.register_hook(lambda gradient: gradient * math.nan)
        return step(optimiser, loss, **named)

    monkeypatch.setattr(Optimiser, "step", spoilt)
    with pytest.raises(NonFiniteError, match=f"^train/{network}_grad_norm "):
        trainer.iterate()
    assert len(spoilt_losses) == 1 and trainer.bad_batch.is_file()
