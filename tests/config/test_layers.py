"""Is a run's configuration exactly what was asked for, and who asked for it?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mg2l_kalei.config import load, render_help, render_sources, request
from tests.config.toy_schema import (
    RECIPE,
    SCHEMA,
    EmptyConfig,
    MappoConfig,
    Mg2lConfig,
    QmixConfig,
    problems,
    resolve,
    write,
)


def test_nothing_given_is_the_default_recipe_on_the_default_family(folder: Path) -> None:
    resolved = load([], SCHEMA, folder)
    config = resolved.config
    assert (config.expt, config.algo, config.seed) == ("default", "mg2l_kalei", 0)
    assert config.kinds == {"env": "mpe-spread", "encoder": "mg2l", "sharing": "full", "learner": "mappo"}
    assert config.encoder == Mg2lConfig(latent_dim=8)
    assert resolved.sources["encoder.latent_dim"] == resolved.sources["encoder.kind"] == "config/algo/mg2l_kalei.yaml"
    assert resolved.sources["learner.lr"] == resolved.sources["env.kind"] == resolved.sources["seed"] == "default"


def test_each_layer_is_stronger_than_the_one_before(folder: Path) -> None:
    sources = []
    write(folder, "expt/quick", "")
    layers = [
        ("algo/mg2l_kalei", RECIPE + "n_iters: 1"),
        ("env/mpe-spread", "n_iters: 2"),
        ("env/mpe-spread", "algo: {mg2l_kalei: {n_iters: 3}}\nn_iters: 2"),
        ("expt/quick", "n_iters: 4"),
        ("expt/quick", "algo: {mg2l_kalei: {n_iters: 5}}\nn_iters: 4"),
    ]
    for n_iters, (name, text) in enumerate(layers, 1):
        write(folder, name, text)
        resolved = load(["--expt=quick"], SCHEMA, folder)
        assert resolved.config.n_iters == n_iters
        sources.append(resolved.sources["n_iters"])
    assert sources[0] == "config/algo/mg2l_kalei.yaml"
    assert sources[3:] == ["config/expt/quick.yaml", "config/expt/quick.yaml algo.mg2l_kalei"]
    resolved = load(["--expt=quick", "n_iters=6"], SCHEMA, folder)
    assert (resolved.config.n_iters, resolved.sources["n_iters"]) == (6, "command line")


def test_a_family_without_a_file_has_that_of_the_longest_name_it_begins_with(folder: Path) -> None:
    write(folder, "env/mpe", "n_iters: 1")
    write(folder, "env/mpe-spread", "n_iters: 2")
    found = {env: load([f"--env={env}"], SCHEMA, folder) for env in ("mpe-hunting", "mpe-spread")}
    assert {env: (resolved.config.n_iters, resolved.sources["n_iters"]) for env, resolved in found.items()} == {
        "mpe-hunting": (1, "config/env/mpe.yaml"),
        "mpe-spread": (2, "config/env/mpe-spread.yaml"),
    }


@pytest.mark.parametrize(
    "argv",
    [
        ["--algo=plain", "--env=mpe-hunting", "seed=3", "learner.tau=0.5"],
        ["learner.tau=0.5", "seed=3", "env=mpe-hunting", "algo=plain"],
        ["--env", "mpe-hunting", "--seed=3", "--algo", "plain", "--learner.tau", "0.5"],
        ["env.kind=mpe-hunting", "--seed", "3", "tau=.5", "--tau=0.5", "algo=plain", "--print-config"],
        ["env=mpe-hunting", "seed=3.0", "tau=5e-1", "encoder=none", "learner.kind=qmix", "expt=as-plain"],
    ],
)
def test_options_and_settings_may_be_spelt_and_ordered_freely(folder: Path, argv: list[str]) -> None:
    write(folder, "expt/as-plain", "algo: plain")
    config = resolve(folder, *argv)
    assert (config.algo, config.kinds["env"], config.seed) == ("plain", "mpe-hunting", 3)
    assert (config.learner, config.encoder) == (QmixConfig(tau=0.5), EmptyConfig())


def test_an_experiment_names_the_family_and_the_recipe_unless_the_command_line_does(folder: Path) -> None:
    write(folder, "expt/hunt", "env: mpe-hunting\nalgo: plain")
    resolved = load(["--expt=hunt"], SCHEMA, folder)
    assert (resolved.config.kinds["env"], resolved.config.algo) == ("mpe-hunting", "plain")
    assert resolved.sources["env.kind"] == resolved.sources["algo"] == "config/expt/hunt.yaml"
    other = resolve(folder, "--expt=hunt", "--algo=mg2l_kalei", "--env=mpe-spread")
    assert (other.kinds["env"], other.algo) == ("mpe-spread", "mg2l_kalei")


@pytest.mark.parametrize("word", ["encoder=none", "encoder.kind=none", "--encoder=none"])
def test_the_command_line_chooses_a_kind_and_the_recipe_then_keeps_silent_about_the_other(
    folder: Path, word: str
) -> None:
    config = resolve(folder, word)
    assert (config.kinds["encoder"], config.encoder, config.algo) == ("none", EmptyConfig(), "mg2l_kalei")


def test_a_kind_in_an_env_or_expt_file_is_a_guard(folder: Path) -> None:
    write(folder, "env/mpe-spread", "learner: {kind: qmix, lr: 0.1}\nencoder: {kind: mg2l, lr: 0.2}")
    write(folder, "expt/hunting-only", "env: {kind: mpe-hunting, n_agents: 5}")
    config = resolve(folder, "--expt=hunting-only")
    assert (config.learner.lr, config.encoder.lr, config.env.n_agents) == (5e-4, 0.2, 3)
    assert resolve(folder, "learner=qmix", "n_agents=1").learner.lr == 0.1
    assert resolve(folder, "--expt=hunting-only", "--env=mpe-hunting").env.n_agents == 5


def test_overrides_of_another_recipe_are_checked_and_not_used(folder: Path) -> None:
    write(folder, "env/mpe-spread", "algo: {plain: {learner: {lr: 0.1}, n_iters: 7}}")
    assert resolve(folder).learner.lr == MappoConfig().lr
    config = resolve(folder, "--algo=plain", "n_agents=1")
    assert (config.learner.lr, config.n_iters) == (0.1, 7)
    write(folder, "env/mpe-spread", "algo: {plain: {learner: {lr_: 0.1}}, plian: {n_iters: 2}}")
    assert problems(folder) == [
        "config/env/mpe-spread.yaml: algo.plian={'n_iters': 2}: no such recipe (did you mean plain?)",
        "config/env/mpe-spread.yaml algo.plain: learner.lr_=0.1: no such setting (did you mean learner.lr?)",
    ]


VALUES = [
    ("n_iters=1e3", "n_iters", 1000),
    ("n_iters=7.0", "n_iters", 7),
    ("seed=010", "seed", 10),
    ("gpu_id=1", "gpu_id", 1),
    ("gpu_id=null", "gpu_id", None),
    ("device=cuda:1", "device", "cuda:1"),
    ("run_name=1e3", "run_name", "1e3"),
    ("init_from=results/a=b", "init_from", "results/a=b"),
    ("references=true", "references", True),
    ("learner.lr=1e-3", "learner.lr", 1e-3),
    ("learner.lr=1", "learner.lr", 1.0),
    ("actor_lr=2e-3", "learner.actor_lr", 2e-3),
    ("actor_lr=none", "learner.actor_lr", None),
    ("hidden=[128,32]", "learner.hidden", (128, 32)),
    ("hidden=128, 32", "learner.hidden", (128, 32)),
    ("hidden=16", "learner.hidden", (16,)),
    ("hidden=[]", "learner.hidden", ()),
    ("range_=(-2,0.5)", "env.range_", (-2.0, 0.5)),
    ("clip_value=False", "learner.clip_value", False),
    ("pooling=mean", "encoder.pooling", "mean"),
    ("note=no", "learner.note", "no"),
    ("size=64", "context.size", 64),
]


@pytest.mark.parametrize(("word", "key", "value"), VALUES, ids=[word for word, _, _ in VALUES])
def test_text_is_read_by_the_type_of_its_setting(folder: Path, word: str, key: str, value: Any) -> None:
    found: Any = resolve(folder, word)
    for name in key.split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


def test_flags_are_requests_and_not_settings(folder: Path) -> None:
    assert [
        request(words) for words in ([], ["seed=1"], ["-h"], ["a", "--help", "--print-config"], ["--print-config"])
    ] == [
        "train",
        "train",
        "help",
        "help",
        "print-config",
    ]
    assert resolve(folder, "--print-config", "seed=2").seed == 2


def test_help_names_every_choice_and_every_setting(folder: Path) -> None:
    text = render_help(SCHEMA.sections(), [folder])
    keys = [
        f"{section}.{name}" if section else name
        for section, kinds in SCHEMA.sections().items()
        for kind in kinds.values()
        for name in kind
    ]
    assert len(keys) > 25
    for word in [*keys, "plain", "mpe-hunting", "mg2l", "qmix", "width of the latent", "> 0 and <= 1"]:
        assert word in text


def test_the_printed_config_gives_the_source_of_every_value(folder: Path) -> None:
    lines = render_sources(load(["seed=4", "hidden=8,8"], SCHEMA, folder)).splitlines()
    table = dict(line.split("  # ") for line in (" ".join(line.split(" ")) for line in lines))
    found = {key.strip(): source for key, source in table.items()}
    assert found["seed=4"] == found["learner.hidden=[8,8]"] == "command line"
    assert found["encoder.latent_dim=8"] == found["sharing.kind=full"] == "config/algo/mg2l_kalei.yaml"
    assert found["expt=default"] == found["learner.actor_lr=null"] == "default"
