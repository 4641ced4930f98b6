"""Does a learner learn as well where the matrix products of its updates are made in bfloat16?"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from mg2l_kalei.config import ConfigError
from mg2l_kalei.config.run_config import run_name
from mg2l_kalei.training.plan import train
from mg2l_kalei.training.system import build
from mg2l_kalei.types import Metrics
from tests.training.trainers import load_words, make_trainer, tiny, without_time

TURNS = ("--env=toy-turns", "n_rows=16", "trial_steps=8", "n_minibatches=2", "network.hidden=[32,32]", "device=cpu")
QUICK = "n_early_updates=1"


def play(algo: str, precision: str, n_iters: int) -> Metrics:
    """Metrics of the last iteration."""
    trainer = make_trainer(load_words(f"--algo={algo}", *TURNS, QUICK, f"n_iters={n_iters}", f"precision={precision}"))
    for _ in range(n_iters):
        metrics = trainer.iterate()
    return metrics


def test_fewer_digits_change_an_update_by_little_and_what_is_acted_on_not_at_all() -> None:
    exact, rough = (without_time(play("mg2l_kalei", precision, 1)) for precision in ("fp32", "bf16"))
    assert exact["train/episode_return"] == rough["train/episode_return"]
    assert 1e-5 < rough["train/first_ratio_error"] < 0.01  # else the setting would do nothing, or too much
    for name in ("train/value_loss", "train/actor_grad_norm", "train/critic_grad_norm"):
        assert rough[name] != exact[name] and rough[name] == pytest.approx(exact[name], rel=0.05), name


def test_a_team_reaches_the_optimum_in_bfloat16() -> None:
    assert float(play("mappo", "bf16", 60)["train/episode_return"]) > 0.9 * 8


def test_a_gru_is_refused_in_bfloat16() -> None:
    with pytest.raises(ConfigError, match=r"^precision=bf16 with network.memory=episode: a GRU needs fp32 or tf32$"):
        load_words("--algo=mappo", "--env=toy-turns", "memory=episode", "precision=bf16")


def test_tf32_is_asked_of_gpus_and_is_another_run(tmp_path: Path) -> None:
    usual = tiny("mappo", "toy-turns", n_epochs=1)
    config = dataclasses.replace(usual, precision="tf32", n_iters=1, eval_trials=1, results_dir=str(tmp_path))
    assert train(config).exit_code == 0
    for of_run, is_asked in ((config, True), (usual, False)):
        build(of_run, torch.device("cpu"))
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == is_asked
    assert run_name(config) != run_name(usual)
