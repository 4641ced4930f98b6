"""Do plugins add what they register, and is no code run that only a file names?"""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import mg2l_kalei.__main__ as program
import train
from envs import ENVS
from mg2l_kalei import configure, load_run
from mg2l_kalei.config import ConfigError, run_dir
from mg2l_kalei.training.plugins import load_plugins
from tests.small_runs import tiny

pytestmark = pytest.mark.usefixtures("no_plugins_left")

PLUGIN = """
from pathlib import Path
from envs.toy import Corners, CornersConfig
from mg2l_kalei.sharing.full import FullConfig, FullSharing

Path("imported").touch()

def register(to):
    to.family("their-corners", Corners, CornersConfig())
    to.sharing("theirs", FullSharing, FullConfig())
    to.recipes(Path(__file__).parent / "theirs")
"""
RECIPE = "encoder:\n  kind: none\nsharing:\n  kind: {sharing}\nlearner:\n  kind: mappo\n  gamma: 0.5\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a plugin that says when it is imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "their_plugin.py").write_text(PLUGIN)
    (tmp_path / "theirs" / "algo").mkdir(parents=True)
    (tmp_path / "theirs" / "algo" / "their_recipe.yaml").write_text(RECIPE.format(sharing="theirs"))
    return tmp_path


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mg2l_kalei.training.assessment.save_picture", lambda path, draw: False)


def words(here: Path) -> list[str]:
    small = tiny(here / "results", algo="mappo", n_iters=1)
    return ["--env=their-corners", "--algo=their_recipe", *small[2:]]


@pytest.mark.usefixtures("no_pictures")
def test_a_run_of_a_plugin_is_trained_and_judged_by_whoever_names_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(words(here)) == 2  # not named: none of it is there
    assert "their" in capsys.readouterr().err and not (here / "imported").exists()
    assert train.main(["plugins=their_plugin", *words(here)]) == 0
    config = configure("plugins=their_plugin", *words(here))
    assert (config.kinds["sharing"], config.learner.gamma) == ("theirs", 0.5)
    run = str(run_dir(config))
    (here / "imported").unlink()
    for command in ("evaluate", "render", "curves", "export"):
        assert program.main([command, run]) == 2
        assert "names code to run, plugins=their_plugin; if you trust it, add plugins=their" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="names code to run"):
        load_run(run, plugins=["other"])
    assert not (here / "imported").exists()
    assert program.main(["evaluate", run, "plugins=their_plugin", "trials=1"]) == 0
    assert program.main(["curves", run, "plugins=their_plugin"]) == 0
    assert load_run(run, plugins=["their_plugin"]).iteration == 1


def test_plugins_do_not_enter_a_run_s_name(here: Path) -> None:
    plain = tiny(here)
    assert run_dir(configure(*plain)) == run_dir(configure("plugins=their_plugin", *plain))


def test_tasks_are_told_of_a_plugin_s_families(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["tasks", "show", "their-corners", "plugins=their_plugin"]) == 0
    assert program.main(["train", "--help", "plugins=their_plugin"]) == 0
    assert "their_recipe" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_module", "loading it raised ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1", "has no attribute 'register'"),
        ("def register(to): to.family('toy-arms', object, None)", "there is env=toy-arms already"),
        ("import sys; sys.exit(0)", "loading it raised SystemExit"),
        ("def register(to): to.recipes('nowhere')", "nowhere has none of the folders algo, env, expt"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(here: Path, text: str, reason: str) -> None:
    (here / "broken.py").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_plugins(["broken"])
    assert str(error.value).startswith("plugins=broken: ") and reason in str(error.value)
    assert len(error.value.problems) == 1


def test_an_installed_plugin_is_always_there_and_a_broken_one_a_warning(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    installed = here / "theirs-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[mg2l_kalei.plugins]\ngood = their_plugin\nbad = not_there\n")
    with caplog.at_level(logging.WARNING):
        config = configure("--env=their-corners", "--algo=their_recipe")
    assert config.kinds["env"] == "their-corners" and "their-corners" in ENVS and config.plugins == ()
    assert [message.partition(": ")[0] for message in caplog.messages] == [
        "the installed plugin bad (not_there) failed"
    ]


def test_a_recipe_may_be_a_file_anywhere(here: Path) -> None:
    path = here / "own.yaml"
    path.write_text(RECIPE.format(sharing="independent"))
    config = configure(f"--algo={path}", "--env=toy-arms", "learner.gamma=0.7")
    assert (config.algo, config.kinds["sharing"], config.learner.gamma) == ("own", "independent", 0.7)
    with pytest.raises(ConfigError, match="not readable"):
        configure(f"--algo={here / 'missing.yaml'}")
    taken = path.rename(here / "mappo.yaml")
    with pytest.raises(ConfigError, match="there is a recipe mappo already"):
        configure(f"--algo={taken}")


def stored(here: Path, *changes: tuple[str, str]) -> Path:
    """A config as a run's folder holds it."""
    from mg2l_kalei.config import to_yaml

    text = to_yaml(configure("--algo=mappo", "--env=toy-arms", "seed=7", "learner.gamma=0.7"))
    for was, now in changes:
        assert was in text
        text = text.replace(was, now)
    (here / "config.yaml").write_text(text)
    return here / "config.yaml"


def test_a_run_may_begin_with_a_stored_config(here: Path) -> None:
    path = stored(here)
    config = configure(f"--config={path}", "gamma=0.8", "sharing=independent")
    assert (config.algo, config.seed, config.learner.gamma) == ("mappo", 7, 0.8)
    assert (config.kinds["env"], config.kinds["sharing"]) == ("toy-arms", "independent")
    assert configure(f"--config={path}") == configure("--algo=mappo", "--env=toy-arms", "seed=7", "learner.gamma=0.7")
    for wrong in ("--algo=oracle", "--expt=quick", "sharing=nosuch"):
        with pytest.raises(ConfigError):
            configure(f"--config={path}", wrong)


def test_code_that_a_stored_config_names_is_named_on_the_command_line_too(here: Path) -> None:
    path = stored(here, ("plugins: []", "plugins: [their_plugin]"))
    with pytest.raises(ConfigError, match="names code to run, plugins=their_plugin; if you trust it"):
        configure(f"--config={path}")
    assert not (here / "imported").exists()
    assert configure(f"--config={path}", "plugins=their_plugin").plugins == ("their_plugin",)
    factory = "env.factory=mpe2.simple_tag_v3:parallel_env"
    from mg2l_kalei.config import to_yaml

    path.write_text(to_yaml(configure("--env=pettingzoo", factory)))
    with pytest.raises(ConfigError, match=f"names code to run, {factory}; if you trust it, add {factory}"):
        configure(f"--config={path}")
    assert configure(f"--config={path}", factory).env.factory == "mpe2.simple_tag_v3:parallel_env"


def test_code_that_a_recipe_s_file_names_is_named_on_the_command_line_too(here: Path) -> None:
    path = here / "own.yaml"
    path.write_text(RECIPE.format(sharing="full") + "env:\n  factory: their_plugin:register\n")
    with pytest.raises(ConfigError, match=r"names code to run, env\.factory=their_plugin:register; if you trust it"):
        configure(f"--algo={path}", "--env=pettingzoo")
    assert not (here / "imported").exists()
    named = configure(f"--algo={path}", "--env=pettingzoo", "env.factory=their_plugin:register")
    assert named.env.factory == "their_plugin:register"


def test_what_a_plugin_makes_as_it_registers_is_made_once(here: Path) -> None:
    (here / "maker.py").write_text("def register(to): to.pooling('made', lambda *given: None)")
    for _ in range(2):
        load_plugins(["maker"])
