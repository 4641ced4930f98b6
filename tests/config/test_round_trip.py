"""Is a stored configuration the same again, and the run's folder found again?"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mg2l_kalei.config import ConfigError, RunConfig, from_dict, read_yaml, run_dir, run_name, to_dict, to_yaml
from mg2l_kalei.config.settings import Rule, from_text
from tests.config.toy_schema import SCHEMA, ContextConfig, EmptyConfig, MappoConfig, Mg2lConfig, SpreadConfig, resolve


def test_a_run_is_found_again_by_what_makes_it_that_run(folder: Path) -> None:
    base = run_name(resolve(folder))
    assert base.startswith("default-s0-")
    same = [
        "n_iters=9",
        "learner.note=other",
        "results_dir=elsewhere",
        "resume=never",
        "references=true",
        "eval_trials=5",
    ]
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
    assert all(
        part in text
        for part in ("encoder.kind=evil", "learner.kind=null", "encoder._target_=os.system, x=1: no setting")
    )
    with pytest.raises(ConfigError, match=r"algo=\.\./"):
        from_dict({**stored, "algo": "../../x"}, SCHEMA)


def test_a_config_of_an_earlier_release_is_refused_in_one_line_by_what_is_gone(folder: Path) -> None:
    stored = to_dict(resolve(folder))
    stored["encoder"] |= {"width": 8, "depth": 2}
    with pytest.raises(
        ConfigError, match=r"^config.yaml: encoder.width=8, encoder.depth=2: .* earlier release"
    ) as error:
        from_dict(stored, SCHEMA)
    assert len(error.value.problems) == 1
    with pytest.raises(ConfigError, match=r"encoder.depth=2, a=1 and 2 more: no setting any more"):
        from_dict({**stored, "a": 1, "b": {"c": 1, "d": 2}}, SCHEMA)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("[a,b=[1,2],c]", ["a", "b=[1,2]", "c"]),
        ("[at=[[1,2],[3,4]],to={x: 1, y: 2}]", ["at=[[1,2],[3,4]]", "to={x: 1, y: 2}"]),
        ("a,b", ["a", "b"]),
    ],
)
def test_commas_inside_of_brackets_separate_no_items(text: str, items: list[str]) -> None:
    assert from_text(text, Rule(str, is_list=True)) == items


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
    network=st.just(EmptyConfig()),
    context=st.builds(ContextConfig, size=st.integers(1)),
    replay=st.just(EmptyConfig()),
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
