"""Are images learned from, are such runs resumed bit for bit, and is what cannot see them refused?"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

import train
from mg2l_kalei.acting.collector import Team, collect
from mg2l_kalei.config import load, run_config, run_name
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, build
from mg2l_kalei.training.training_run import TrainingRun
from mg2l_kalei.types import Metrics
from tests.small_runs import files_in, folder_of, remains, tiny
from tests.small_systems import generator

SIGNS = "tests.envs.pettingzoo_signs:signs"
SMALL = {"env__factory": SIGNS, "env__episode_steps": 0, "network__image": "[4x3/2]"}


def words(results: Path, algo: str = "mappo", **settings: Any) -> list[str]:
    return tiny(results, "pettingzoo", algo, **{**SMALL, **settings})


def test_what_an_image_says_is_learned() -> None:
    """Right half of the time by chance."""
    chosen = ["env=pettingzoo", "algo=mappo", f"env.factory={SIGNS}", "n_rows=32", "n_iters=12", "device=cpu"]
    sizes = ["learner.actor_lr=3e-3", "network.hidden=[32]", "network.image=[8x3/1,8x3/2]", "learner.n_minibatches=2"]
    system = build(load([*chosen, *sizes], SCHEMA, CONFIG_DIR).config, torch.device("cpu"))
    trainer = MetaTrainer(system, Path("unused"))
    for _ in range(12):
        trainer.iterate()
    env = system.family.make(64, torch.device("cpu"), generator(5))
    team = Team(system.learner, system.encoder, generator(1))
    rollout = collect(env, team, torch.zeros(64, dtype=torch.int64), 4, explore=None)
    assert rollout.steps.obs.dtype == torch.uint8
    assert rollout.steps.reward.mean() > 0.95


@pytest.mark.parametrize(
    "settings",
    [
        {"sharing__kind": "kaleidoscope"},
        pytest.param(
            {"network__memory": "trial", "network__inputs": "[action,reward]", "env__train": "[form=sizes]"},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["masks", "memory"],
)
def test_a_run_with_images_goes_on_bit_for_bit(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingRun, "_finish", lambda self, references, stop: None)
    whole, halved = (words(tmp_path / place, eval_interval=0, **settings) for place in ("whole", "halved"))
    assert train.main(whole) == 0
    iterate = MetaTrainer.iterate

    def breaking_off(trainer: MetaTrainer) -> Metrics:
        if trainer.iteration == 2:
            raise KeyboardInterrupt
        return iterate(trainer)

    monkeypatch.setattr(MetaTrainer, "iterate", breaking_off)
    with pytest.raises(KeyboardInterrupt):
        train.main(halved)
    assert remains(folder_of(halved)).step == "step-00000002"
    monkeypatch.setattr(MetaTrainer, "iterate", iterate)
    assert train.main(halved) == 0
    assert remains(folder_of(halved)) == remains(folder_of(whole))


def refused(given: list[str], results: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that bad input is answered with, before anything is written."""
    assert train.main(given) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and files_in(results) == {}
    return line


def test_an_encoder_that_would_infer_from_images_is_refused_and_takes_them_as_vectors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = refused(words(tmp_path, "mg2l_full"), tmp_path, capsys)
    assert line.startswith("encoder.kind=mg2l has no convolutions, and pettingzoo shows images of 8x8x1: choose ")
    assert "network.image=[]" in line
    monkeypatch.setattr(TrainingRun, "_finish", lambda self, references, stop: None)
    given = words(tmp_path, "mg2l_full", n_iters=1, eval_interval=0, network__image="[]", encoder__second_order="true")
    assert train.main(given) == 0


@pytest.mark.parametrize("layer", ["16x3", "0x3/1", "16x3/0", "-1x3/1", "3"])
def test_convolutions_that_are_none_are_refused(layer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(words(tmp_path, network__image=f"[{layer}]"), tmp_path, capsys)
    assert line == f"network: image={layer}: expected CHANNELSxKERNEL/STRIDE, whole numbers from 1, as in 32x3/2\n"


def test_runs_keep_the_names_that_they_had_before_there_were_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    def name(*others: str) -> str:
        return run_name(load(["--env=mpe-spread", "--algo=mappo", *others], SCHEMA, CONFIG_DIR).config)

    usual = name()
    assert usual == name("network.image=[16x3/1,32x3/2,32x3/2]") != name("network.image=[]")
    late = run_config._late
    monkeypatch.setattr(run_config, "_late", lambda config: late(config) | {"image"} & {f.name for f in fields(config)})
    assert usual == name() == name("network.image=[]")  # as if there were no such setting
