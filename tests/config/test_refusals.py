"""Is everything else refused, in one clear line each, before anything is written?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from envs.core import setting
from mg2l_kalei.config import Schema
from mg2l_kalei.config.settings import read, rules
from tests.config.toy_schema import RECIPE, problems, write

REFUSED = [
    ("sede=3", "sede=3: no such setting (did you mean seed?)"),
    ("learner.clip_valeu=true", "learner.clip_valeu=true: no such setting (did you mean learner.clip_value?)"),
    ("encodr=none", "encodr=none: no such setting (did you mean encoder?)"),
    ("learner.temperature=3", "learner.temperature=3: no such setting"),
    ("encoder.latent_dmi=3", "encoder.latent_dmi=3: no such setting (did you mean encoder.latent_dim?)"),
    ("lr=1", "lr=1: which of encoder.lr, learner.lr?"),
    ("learner.tau=1", "learner.tau=1: a setting of learner.kind=qmix only"),
    ("tau=1", "tau=1: a setting of learner.kind=qmix only"),
    ("epochs=3", "epochs=3: no such setting (did you mean n_epochs?)"),
    ("learner.value=3", "learner.value=3: no such setting (did you mean learner.clip_value?)"),
    ("--env=hunting", "env=hunting: expected one of mpe-spread, mpe-hunting (did you mean mpe-hunting?)"),
    ("--env=mpe-sprad", "env=mpe-sprad: expected one of mpe-spread, mpe-hunting (did you mean mpe-spread?)"),
    ("--algo=plian", "algo=plian: expected one of mg2l_kalei, plain (did you mean plain?)"),
    ("--algo=../algo/plain", "algo=../algo/plain: expected one of mg2l_kalei, plain"),
    ("--expt=quick", "expt=quick: expected one of default"),
    ("--algo=pearl", "algo=pearl: expected one of mg2l_kalei, plain"),
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
    ("context.lr=1", "context.lr=1: no such setting (did you mean encoder.lr or learner.lr?)"),
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


@dataclass(frozen=True)
class Listed:
    terms: tuple[str, ...] = setting((), "what is learned", choices=("contrast", "kl"))


def test_of_a_list_the_first_item_that_is_wrong_has_its_nearest_choice() -> None:
    with pytest.raises(ValueError, match=r"^expected a list of any of contrast, kl \(did you mean contrast\?\)$"):
        read(["kl", "contarst"], rules(Listed())["terms"])


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
    ("expt/default", "context: {kind: x}", "context.kind=x: no such setting"),
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
