"""Is a run's configuration exactly what was asked for, and is everything else refused in one clear line each?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from envs.core import setting
from mg2l_kalei.config import (
    ConfigError,
    RunConfig,
    Schema,
    from_dict,
    load,
    read_yaml,
    render_help,
    render_sources,
    request,
    run_dir,
    run_name,
    to_dict,
    to_yaml,
)


@dataclass(frozen=True)
class SpreadConfig:
    n_agents: int = setting(3, "agents", low=1, high=9)
    range_: tuple[float, float] = setting((-1.0, 1.0), "of positions")

    def __post_init__(self) -> None:
        if self.range_[0] >= self.range_[1]:
            raise ValueError(f"range_={list(self.range_)}: expected the lower bound first")


@dataclass(frozen=True)
class EmptyConfig:
    pass


@dataclass(frozen=True)
class Mg2lConfig:
    latent_dim: int = setting(16, "width of the latent", low=1)
    pooling: Literal["attention", "mean"] = setting("attention", "of the context")
    lr: float = setting(3e-4, "learning rate", above=0.0)


@dataclass(frozen=True)
class MappoConfig:
    lr: float = setting(5e-4, "learning rate", above=0.0)
    actor_lr: float | None = setting(None, "of the actor", above=0.0)
    n_epochs: int = setting(10, "passes over a rollout", low=1)
    hidden: tuple[int, ...] = setting((64, 64), "layer widths", low=1)
    clip_value: bool = setting(True, "clip the value loss")
    note: str = setting("plain", "free text", extends=True)


@dataclass(frozen=True)
class QmixConfig:
    lr: float = setting(1e-3, "learning rate", above=0.0)
    tau: float = setting(0.01, "target step", above=0.0, high=1.0)


@dataclass(frozen=True)
class ContextConfig:
    size: int = setting(32, "transitions", low=1)


def qmix_wants_one_agent(config: RunConfig) -> Iterator[str]:
    if config.kinds["learner"] == "qmix" and config.env.n_agents > 1:
        yield f"learner.kind=qmix with env.n_agents={config.env.n_agents}: expected one agent"


SCHEMA = Schema(
    axes={
        "env": {"mpe-spread": (object, SpreadConfig()), "mpe-hunting": (object, SpreadConfig(n_agents=1))},
        "encoder": {"none": (object, EmptyConfig()), "mg2l": (object, Mg2lConfig())},
        "sharing": {"full": (object, EmptyConfig())},
        "learner": {"mappo": (object, MappoConfig()), "qmix": (object, QmixConfig())},
    },
    groups={"context": ContextConfig()},
    checks=(qmix_wants_one_agent,),
)
RECIPE = "encoder: {kind: mg2l, latent_dim: 8}\nsharing: full\nlearner: {kind: mappo}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration folder with two recipes and an empty default experiment."""
    files = {
        "algo/mg2l_kalei": RECIPE,
        "algo/plain": "encoder: none\nsharing: full\nlearner: qmix\n",
        "expt/default": "",
    }
    for name, text in files.items():
        write(tmp_path / "config", name, text)
    return tmp_path / "config"


def write(folder: Path, name: str, text: str) -> None:
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def resolve(folder: Path, *argv: str) -> RunConfig:
    return load(argv, SCHEMA, folder).config


def problems(folder: Path, *argv: str) -> list[str]:
    """What is wrong; each problem is one line, and nothing is written while finding out."""
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(ConfigError) as error:
        load(argv, SCHEMA, folder)
    assert sorted(folder.parent.rglob("*")) == before
    assert all("\n" not in line for line in error.value.problems)
    return error.value.problems


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


REFUSED = [
    ("sede=3", "sede=3: no such setting (did you mean seed?)"),
    ("learner.clip_valeu=true", "learner.clip_valeu=true: no such setting (did you mean learner.clip_value?)"),
    ("encodr=none", "encodr=none: no such setting (did you mean encoder?)"),
    ("encoder.latent_dmi=3", "encoder.latent_dmi=3: no such setting (did you mean encoder.latent_dim?)"),
    ("lr=1", "lr=1: which of encoder.lr, learner.lr?"),
    ("learner.tau=1", "learner.tau=1: a setting of learner.kind=qmix only"),
    ("tau=1", "tau=1: a setting of learner.kind=qmix only"),
    ("epochs=3", "epochs=3: no such setting (did you mean n_epochs?)"),
    ("learner.value=3", "learner.value=3: no such setting (did you mean learner.clip_value?)"),
    ("--env=hunting", "env=hunting: expected one of mpe-spread, mpe-hunting (did you mean mpe-hunting?)"),
    ("--env=mpe-sprad", "env=mpe-sprad: expected one of mpe-spread, mpe-hunting (did you mean mpe-spread?)"),
    ("--algo=plian", "algo=plian: expected one of mg2l_kalei, plain (did you mean plain?)"),
    ("--algo=../algo/plain", "algo=../algo/plain: expected one of mg2l_kalei, plain (did you mean plain?)"),
    ("--expt=quick", "expt=quick: expected one of default (did you mean default?)"),
    ("encoder=mgl2", "encoder.kind=mgl2: expected one of none, mg2l (did you mean mg2l?)"),
    ("pooling=men", "encoder.pooling=men: expected one of attention, mean (did you mean mean?)"),
    ("n_iters=1.5", "n_iters=1.5: expected a whole number >= 1"),
    ("n_iters=0", "n_iters=0: expected a whole number >= 1"),
    ("n_iters=true", "n_iters=true: expected a whole number >= 1"),
    ("n_iters=inf", "n_iters=inf: expected a whole number >= 1"),
    ("n_iters=null", "n_iters=null: expected a whole number >= 1"),
    ("seed=1:30", "seed=1:30: expected a whole number >= 0"),
    ("gpu_id=-1", "gpu_id=-1: expected a whole number >= 0 or null"),
    ("learner.lr=nan", "learner.lr=nan: expected a finite number > 0"),
    ("learner.lr=inf", "learner.lr=inf: expected a finite number > 0"),
    ("learner.lr=0", "learner.lr=0.0: expected a finite number > 0"),
    ("learner.lr=fast", "learner.lr=fast: expected a finite number > 0"),
    ("references=yes", "references=yes: expected true or false"),
    ("references=1", "references=1: expected true or false"),
    ("hidden=[64,0]", "learner.hidden=[64,0]: expected a list of whole numbers >= 1"),
    ("hidden=[64,1.5]", "learner.hidden=[64,1.5]: expected a list of whole numbers >= 1"),
    ("range_=[1]", "env.range_=[1.0]: expected a list of 2 finite numbers"),
    ("n_agents=10", "env.n_agents=10: expected a whole number >= 1 and <= 9"),
    ("note=${oc.env:HOME}", "learner.note=${oc.env:HOME}: expected a plain value, interpolations are refused"),
    ("sede=two\nlines", "sede=two lines: no such setting (did you mean seed?)"),
    ("seed", "seed: expected key=value"),
    ("--seed", "--seed: expected --key=value"),
    ("=3", "=3: expected key=value"),
    ("run_name=", "run_name=: no value after run_name; write run_name=null for none"),
]


@pytest.mark.parametrize(("word", "problem"), REFUSED, ids=[word for word, _ in REFUSED])
def test_a_mistake_is_refused_with_its_source_value_and_nearest_choice(folder: Path, word: str, problem: str) -> None:
    assert problems(folder, word) == [f"command line: {problem}"]


IMPOSSIBLE = [
    (["--env", "seed=3"], "command line: --env: expected --key=value"),
    (["--env", "--seed=3"], "command line: --env: expected --key=value"),
    (["actor_lr=1", "learner.actor_lr=2"], "command line: learner.actor_lr=2.0: given before as 1.0"),
    (["env=mpe-spread", "--env=mpe-hunting"], "command line: env=mpe-hunting: given before as mpe-spread"),
    (["encoder=none", "encoder.kind=mg2l"], "command line: encoder.kind=mg2l: given before as none"),
    (["learner=qmix"], "learner.kind=qmix with env.n_agents=3: expected one agent"),
    (["range_=[2,1]"], "env: range_=[2.0, 1.0]: expected the lower bound first"),
    (["device=gpu"], "device=gpu: expected auto, cpu, cuda or cuda:N"),
    (["device=cpu", "gpu_id=0"], "gpu_id=0 with device=cpu: expected device=cuda, or no gpu_id"),
    (["run_name=../x"], "run_name=../x: expected a file's name, of letters, digits and - _ . ="),
]


@pytest.mark.parametrize(("argv", "problem"), IMPOSSIBLE, ids=[" ".join(argv) for argv, _ in IMPOSSIBLE])
def test_what_contradicts_itself_is_refused(folder: Path, argv: list[str], problem: str) -> None:
    assert problems(folder, *argv) == [problem]


FILES = [
    ("expt/default", "n_itres: 3", "n_itres=3: no such setting (did you mean n_iters?)"),
    ("expt/default", "lerner: {lr: 1}", "lerner={'lr': 1}: no such setting (did you mean learner?)"),
    ("expt/default", "learner: {lr_: 1}", "learner.lr_=1: no such setting (did you mean learner.lr?)"),
    ("expt/default", "learner: {tau: 1}", "learner.tau=1: a setting of learner.kind=qmix only"),
    ("expt/default", "learner: {kind: qmix, tau: 2}", "learner.tau=2: expected a finite number > 0 and <= 1"),
    ("expt/default", "learner: {kind: qmx}", "learner.kind=qmx: expected one of mappo, qmix (did you mean qmix?)"),
    ("expt/default", "learner: mappo", "learner=mappo: expected a mapping of settings"),
    ("expt/default", "context: {kind: x}", "context.kind=x: no such setting (did you mean context.size?)"),
    ("expt/default", "learner: {lr: 1.e-3, n_epochs: '3'}", "learner.n_epochs=3: expected a whole number >= 1"),
    ("expt/default", "run_name: 1.5", "run_name=1.5: expected text or null"),
    ("expt/default", "device: yes", "device=true: expected text"),
    ("expt/default", "seed: [1]", "seed=[1]: expected a whole number >= 0"),
    ("expt/default", "learner: {hidden: 3}", "learner.hidden=3: expected a list of whole numbers >= 1"),
    ("expt/default", "seed: ${oc.env:UID}", "seed=${oc.env:UID}: expected a plain value, interpolations are refused"),
    (
        "expt/default",
        "env: mpe-hunt",
        "env=mpe-hunt: expected one of mpe-spread, mpe-hunting (did you mean mpe-hunting?)",
    ),
    ("expt/default", "algo: [1]", "algo=[1]: expected overrides by recipe, {NAME: ...}"),
    ("env/mpe-spread", "env: mpe-hunting", "env=mpe-hunting: expected a mapping of settings"),
    ("algo/mg2l_kalei", "sharing: full\nlearner: mappo", "encoder.kind=null: expected one of none, mg2l"),
    (
        "algo/mg2l_kalei",
        RECIPE.replace("mg2l", "mlg2"),
        "encoder.kind=mlg2: expected one of none, mg2l (did you mean mg2l?)",
    ),
]


@pytest.mark.parametrize(("name", "text", "problem"), FILES, ids=[text for _, text, _ in FILES])
def test_a_mistake_in_a_file_is_refused_with_the_file_named(folder: Path, name: str, text: str, problem: str) -> None:
    write(folder, name, text)
    assert problems(folder) == [f"config/{name}.yaml: {problem}"]


@pytest.mark.parametrize("text", ["seed: [1", "- seed", "seed: 1\nseed: 2", "seed: ${", "\x00"])
def test_a_file_that_is_no_mapping_is_refused_without_further_complaints(folder: Path, text: str) -> None:
    write(folder, "algo/mg2l_kalei", text)
    (line,) = problems(folder)
    assert line.startswith(f"{folder}/algo/mg2l_kalei.yaml: ") or "config/algo/mg2l_kalei.yaml: seed=${" in line


def test_all_problems_are_shown_together(folder: Path) -> None:
    write(folder, "expt/default", "n_itres: 3\ncontext: {size: 0}")
    words = ["--env=mpe-sprad", "seed=-1", "learner.lrr=1", "stray", "encoder=mgl2"]
    lines = problems(folder, *words, "device=gpu")
    assert [line.split(":")[1].split("=")[0].strip() for line in lines] == [
        "stray",
        "env",
        "encoder.kind",
        "n_itres",
        "context.size",
        "seed",
        "learner.lrr",
    ]


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
    text = render_help(SCHEMA, folder)
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


def test_a_run_is_found_again_by_what_makes_it_that_run(folder: Path) -> None:
    base = run_name(resolve(folder))
    assert base.startswith("default-s0-")
    same = ["n_iters=9", "learner.note=other", "results_dir=elsewhere", "resume=never", "gpu_id=1", "references=true"]
    assert all(run_name(resolve(folder, word)) == base for word in same)
    others = [
        "seed=1",
        "learner.lr=0.1",
        "encoder=none",
        "--env=mpe-hunting",
        "n_rows=2",
        "context.size=3",
        "init_from=x",
    ]
    assert len({base, *(run_name(resolve(folder, word)) for word in others)}) == 1 + len(others)
    assert run_dir(resolve(folder, "results_dir=r")) == Path("r/mpe-spread/mg2l_kalei") / base
    assert run_dir(resolve(folder, "run_name=mine")) == Path("results/mpe-spread/mg2l_kalei/mine")


def test_a_stored_config_lacking_a_setting_takes_its_default_and_a_foreign_one_is_refused(folder: Path) -> None:
    stored = to_dict(resolve(folder))
    del stored["seed"], stored["encoder"]["latent_dim"]
    assert from_dict(stored, SCHEMA) == resolve(folder, "latent_dim=16")
    foreign = {**stored, "algo": "../../x", "encoder": {"kind": "evil", "_target_": "os.system"}, "learner": {}, "x": 1}
    with pytest.raises(ConfigError) as error:
        from_dict(foreign, SCHEMA)
    text = "\n".join(error.value.problems)
    assert all(part in text for part in ("encoder.kind=evil", "learner.kind=null", "config.yaml: x=1"))
    with pytest.raises(ConfigError, match=r"algo=\.\./"):
        from_dict({**stored, "algo": "../../x"}, SCHEMA)


def test_a_setting_that_could_never_be_legal_is_the_developers_error() -> None:
    @dataclass(frozen=True)
    class TooLow:
        width: int = setting(0, "of something", low=1)

    @dataclass(frozen=True)
    class Strange:
        table: dict[str, int] = setting(None, "of something")

    with pytest.raises(ValueError, match="default: width=0: expected a whole number >= 1"):
        Schema(axes={}, groups={"context": TooLow()}).sections()
    with pytest.raises(TypeError, match="table: a setting is bool, int"):
        Schema(axes={}, groups={"context": Strange()}).sections()


NUMBERS = st.floats(min_value=1e-300, allow_infinity=False, allow_nan=False)
CONFIGS = st.builds(
    RunConfig,
    expt=st.just("default"),
    algo=st.sampled_from(["plain", "1e3", "no"]),
    kinds=st.just({"env": "mpe-spread", "encoder": "mg2l", "sharing": "full", "learner": "mappo"}),
    env=st.builds(SpreadConfig, n_agents=st.integers(1, 9), range_=NUMBERS.map(lambda high: (-high, high))),
    encoder=st.builds(Mg2lConfig, lr=NUMBERS, pooling=st.sampled_from(["attention", "mean"])),
    sharing=st.just(EmptyConfig()),
    learner=st.builds(
        MappoConfig,
        actor_lr=st.none() | NUMBERS,
        hidden=st.lists(st.integers(1, 10**6)).map(tuple),
        clip_value=st.booleans(),
        note=st.text().filter(lambda text: "${" not in text),
    ),
    context=st.builds(ContextConfig, size=st.integers(1)),
    seed=st.integers(0),
    gpu_id=st.none() | st.integers(0, 9),
    init_from=st.none() | st.sampled_from(["null", "none", "~", "1e3", "a: b", "???", " x", "007", "true"]),
    n_iters=st.integers(1),
    references=st.booleans(),
)


@given(CONFIGS)
@hypothesis_settings(max_examples=50, deadline=None)
def test_a_config_survives_being_written_as_values_and_as_yaml(
    tmp_path_factory: pytest.TempPathFactory, config: RunConfig
) -> None:
    assert from_dict(to_dict(config), SCHEMA) == config
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert from_dict(read_yaml(path), SCHEMA) == config


KEYS = [
    "seed",
    "n_iters",
    "learner.lr",
    "encoder.latent_dim",
    "context.size",
    "env",
    "algo",
    "sharing.kind",
    "actor_lr",
]


@given(st.sampled_from(KEYS), st.integers(0, 20), st.sampled_from([*"abc_.=-0", ""]))
@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_misspelt_key_never_passes_silently(folder: Path, key: str, place: int, letter: str) -> None:
    place %= len(key)
    misspelt = key[:place] + letter + key[place + 1 :]
    if misspelt in ("lr", *KEYS) or misspelt == "":
        return
    assert any(misspelt.partition("=")[0] in line for line in problems(folder, f"{misspelt}=1"))
