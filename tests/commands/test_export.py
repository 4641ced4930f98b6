"""Does an exported team act as the team does, over a whole trial, and does its loader need PyTorch alone?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mg2l_kalei.__main__ as program
import train
from envs.core import EnvSpec, Refusal
from mg2l_kalei.acting.collector import Team
from mg2l_kalei.acting.program import TeamProgram
from mg2l_kalei.commands.export import as_bytes, program_of, write_onnx
from mg2l_kalei.config import ConfigError, load
from mg2l_kalei.networks.config import INPUTS
from mg2l_kalei.training.saved_run import LoadedRun
from mg2l_kalei.training.system import CONFIG_DIR, SCHEMA, build
from mg2l_kalei.types import Step
from tests.small_runs import folder_of, tiny
from tests.small_systems import CONTINUOUS, DISCRETE, generator, make_encoder, make_learner, random_rollout

B, T = 2, 9  # rows; steps of a trial, of episodes of 4
GUIDE = (Path(__file__).parents[2] / "docs/guides/export.md").read_text()
LOADER = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[0]
CASES: dict[str, tuple[EnvSpec, dict[str, Any], dict[str, Any]]] = {
    "masks, looking back": (DISCRETE, {"kind": "mg2l", "second_order": True}, {"sharing": "kaleidoscope"}),
    "a window, memory of the episode": (
        CONTINUOUS,
        {"kind": "mg2l", "pooling": "attention_blocks"},
        {"memory": "episode", "inputs": ("reward",)},
    ),
    "values of actions": (DISCRETE, {"kind": "mg2l"}, {"kind": "qmix", "memory": "episode", "sharing": "independent"}),
    "deterministic": (CONTINUOUS, {"kind": "mg2l"}, {"kind": "matd3", "sharing": "kaleidoscope"}),
    "RL2": (DISCRETE, {"kind": "none"}, {"memory": "trial", "inputs": INPUTS}),
}

QUICK = ("masks, looking back", "RL2")


def trial(spec: EnvSpec, seed: int = 0) -> Step:
    """Steps of noise in which an agent leaves, and some actions are not legal where there is a choice."""
    steps = random_rollout(spec, T, B, seed=seed).steps
    steps.alive[2:4, 0, 1] = steps.next_alive[1:3, 0, 1] = False
    legal = torch.rand(T, B, spec.n_agents, spec.action_dim, generator=generator(seed)) < 0.7
    return steps._replace(legal=legal) if spec.is_discrete else steps


def by_team(team: Team, steps: Step) -> list[Tensor]:
    """The actions of a team, its own told to it as those that led on."""
    team.begin(torch.zeros(B, dtype=torch.int64))
    actions = []
    for t in range(T):
        now = Step._make(None if x is None else x[t] for x in steps)
        team.restart(now.episode_start)
        actions.append(team.act(now.obs, now.legal).action)
        team.observe(now._replace(action=actions[-1]).transition)
    return actions


def seen(steps: Step, t: int) -> dict[str, Tensor]:
    """What an exported team is given before step t."""
    before = max(t - 1, 0)
    given = {"obs": steps.obs[t], "arrived": steps.next_obs[before], "reward": steps.reward[before]}
    flags = {"alive": steps.alive[t], "trial_start": torch.tensor(t == 0), "episode_start": steps.episode_start[t]}
    return given | flags | ({} if steps.legal is None else {"legal": steps.legal[t]})


def team_and_program(case: str) -> tuple[Team, TeamProgram]:
    spec, of_encoder, of_learner = CASES[case]
    encoder = make_encoder(of_encoder["kind"], spec, **{k: v for k, v in of_encoder.items() if k != "kind"})
    learner = make_learner(encoder, spec, **of_learner)
    for _, parameter in sorted(learner.networks["actor"].named_parameters()):  # initial policies do next to nothing
        parameter.data.add_(0.3 * torch.randn(parameter.shape, generator=generator(1)))
    return Team(learner, encoder, generator()), TeamProgram(learner, learner.networks, encoder, spec, B)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in QUICK else [pytest.mark.slow]) for case in CASES]
)
def test_an_exported_team_acts_as_the_team_does(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    team, exported = team_and_program(case)
    spec = CASES[case][0]
    (tmp_path / "team.pt2").write_bytes(as_bytes(exported, spec._asdict()))
    monkeypatch.chdir(tmp_path)
    for seed in range(2):  # the second trial is played by what the first left behind
        steps = trial(spec, seed)
        first = seen(steps, 0)
        if seed == 0:
            names: dict[str, Any] = {**first, "yes": torch.tensor(True), "legal": first.get("legal")}
            loader = LOADER if spec.is_discrete else LOADER.replace("legal=legal, ", "")
            exec(loader, names)  # the guide's own lines
        for t, expected in enumerate(by_team(team, steps)):
            with torch.no_grad():
                action, names["state"] = names["step"](state=names["state"], **seen(steps, t))
            torch.testing.assert_close(action, expected, rtol=0, atol=1e-5)


def test_the_loader_imports_pytorch_alone() -> None:
    assert re.findall(r"^(?:import|from) (\w+)", LOADER, re.MULTILINE) == ["json", "torch"]


def test_a_run_is_exported(tmp_path: Path) -> None:
    words = tiny(tmp_path, algo="mappo", n_iters=1, eval_trials=1)
    assert train.main(words) == 0
    folder = folder_of(words)
    assert program.main(["export", str(folder.path)]) == 0
    assert (folder.path / "export" / "team.pt2").is_file()


REFUSED = {"oracle": "is an oracle, which acts by a task that it is told", "pearl": "holds latents through an episode"}


@pytest.mark.parametrize("algo", REFUSED)
def test_who_acts_on_more_than_steps_tell_is_not_exported(algo: str, tmp_path: Path) -> None:
    words = tiny(tmp_path, algo=algo)
    system = build(load(words, SCHEMA, CONFIG_DIR).config, torch.device("cpu"))
    with pytest.raises(ConfigError, match=REFUSED[algo]):
        program_of(LoadedRun(folder_of(words), system, 0, 0), 1)


@pytest.mark.slow
@pytest.mark.parametrize("case", QUICK)
def test_onnx_acts_as_the_team_does(case: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    team, exported = team_and_program(case)
    session = runtime.InferenceSession(str(write_onnx(exported, tmp_path / "team.onnx")))
    steps, state = trial(CASES[case][0]), exported.initial_state
    names = [given.name for given in session.get_inputs()]
    for t, expected in enumerate(by_team(team, steps)):
        given = [*state, *seen(steps, t).values()]
        action, *state = session.run(None, {name: x.numpy() for name, x in zip(names, given, strict=True)})
        state = [torch.from_numpy(x) for x in state]
        torch.testing.assert_close(torch.from_numpy(action), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_what_onnx_cannot_say_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    with pytest.raises(Refusal, match="ONNX cannot say what this team does: "):
        write_onnx(team_and_program("a window, memory of the episode")[1], tmp_path / "team.onnx")
    assert not list(tmp_path.iterdir())
