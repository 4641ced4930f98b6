"""Do mixer, masked recurrent agents and the whole learner equal those of Kaleidoscope's authors, number for number?

The arrays were made by their own modules in float64 (``golden/kalei_*.npz``, ``golden/qmix_mixer.npz``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from envs.core import EnvSpec
from mg2l_kalei.encoders.references import NoEncoder, NoEncoderConfig
from mg2l_kalei.learners.base import Setup
from mg2l_kalei.learners.qmix import Qmix, QmixConfig
from mg2l_kalei.learners.replayed import Trials, of_team
from mg2l_kalei.networks import Memory, NetworkConfig, RecurrentMlp
from mg2l_kalei.networks.mixers import MonotonicMixer
from mg2l_kalei.networks.normaliser import Moments, RunningMoments
from mg2l_kalei.sharing.kaleidoscope import PUBLISHED, KaleidoscopeSharing
from mg2l_kalei.sharing.masked_linear import mask_diversity, masked_layers
from mg2l_kalei.types import Step, TaskLatent
from tests.small_systems import generator

Arrays = Mapping[str, Tensor]
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
N, ID = 3, 3  # agents, and their one-hot numbers, which stand behind observations there and before them here


def load(name: str) -> Arrays:
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def close(found: Tensor | None, expected: Tensor) -> None:
    assert found is not None
    torch.testing.assert_close(found.detach(), expected, rtol=1e-10, atol=1e-10)


def part(arrays: Arrays, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}


def mixer_parameters(mixer: MonotonicMixer) -> dict[str, nn.Parameter]:
    """By the names that they have there."""
    theirs = {
        "first_weight": "hyper_w_1",
        "second_weight": "hyper_w_final",
        "first_bias": "hyper_b_1",
        "value": "V",
    }
    named = (name.partition(".") for name, _ in mixer.named_parameters())
    names = [f"{theirs[first]}.{rest}" for first, _, rest in named]
    return dict(zip(names, mixer.parameters(), strict=True))


def agent_parameters(body: RecurrentMlp) -> dict[str, nn.Parameter]:
    gru = {"weight_ih": body.gru.input.weight, "weight_hh": body.gru.recurrence.weight}
    gru |= {"bias_ih": body.gru.input.bias, "bias_hh": body.gru.recurrence.bias}
    found = {f"rnn.{name}": parameter for name, parameter in gru.items()}
    for number, layer in enumerate(masked_layers(body), 1):
        found |= {f"fc{number}.weight": layer.weight, f"fc{number}.bias": layer.bias}
        found[f"fc{number}.sparse_thresholds"] = layer.thresholds
    return found


def ours(arrays: Arrays) -> dict[str, Tensor]:
    """Theirs as ours: of the first layer, columns of the agent's number come first."""
    first = ("agent.fc1.weight", "agent.fc1.sparse_thresholds")
    return {name: x.roll(ID, -1) if name in first else x for name, x in arrays.items()}


def take(parameters: Mapping[str, nn.Parameter], arrays: Arrays) -> None:
    assert parameters.keys() == arrays.keys()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(arrays[name])


def network(hidden: int) -> NetworkConfig:
    return NetworkConfig(hidden=(hidden,) * 3, memory="episode", chunk_length=0)


def test_the_mixer_and_its_gradients() -> None:
    golden = load("qmix_mixer")
    q, state = (golden[name].clone().requires_grad_() for name in ("agent_q", "state"))
    mixer = MonotonicMixer(q.shape[-1], state.shape[-1], width=6, hypernet_width=10, generator=generator()).double()
    parameters = mixer_parameters(mixer)
    take(parameters, part(golden, "param."))
    mixed = mixer(q, state)
    close(mixed, golden["q_tot"][..., 0])
    mixed.backward(golden["grad_q_tot"][..., 0])
    close(q.grad, golden["grad_agent_q"])
    close(state.grad, golden["grad_state"])
    for name, gradient in part(golden, "grad.").items():
        close(parameters[name].grad, gradient)


def test_masked_recurrent_agents_their_gradients_and_those_of_diversity() -> None:
    golden = load("kalei_rnn_agent")
    x = golden["x"].transpose(0, 1)  # (T, B, N, in)
    sharing = KaleidoscopeSharing(PUBLISHED, range(N), generator())
    body = RecurrentMlp(sharing, 10, 5, network(8)).double()
    parameters = agent_parameters(body)
    take(parameters, part(golden, "param."))
    q, states = body(x, Memory(x.new_zeros(4, N, 8)))
    close(q.transpose(0, 1), golden["q"])
    close(states.transpose(0, 1), golden["h"])
    q.backward(golden["grad_q"].transpose(0, 1))
    for name, gradient in part(golden, "grad.").items():
        close(parameters[name].grad, gradient)
    body.zero_grad()
    layers = masked_layers(body)
    assert [layer.role.weight for layer in layers] == golden["layer_weights"].tolist()
    diversity = mask_diversity(layers) / (N * (N - 1) * sum(layer.weight.numel() for layer in layers))
    close(-diversity, golden["diversity_loss"])
    (-diversity).backward()
    for name, gradient in part(golden, "grad_diversity.").items():
        close(parameters[name].grad, gradient)


SPEC = EnvSpec(n_agents=N, obs_dim=7, state_dim=21, action_dim=5, is_discrete=True, episode_steps=5)


def learner_of(golden: Arrays) -> Qmix:
    encoder = NoEncoder(NoEncoderConfig(), SPEC, torch.zeros(1, 0), 1, generator())
    config = QmixConfig(mixer_width=8, hypernet_width=16, lr=5e-4, max_grad_norm=10.0, time_limits="terminal")
    sharing = KaleidoscopeSharing(PUBLISHED, range(N), generator())
    learner = Qmix(config, Setup(network(12), SPEC, encoder, lambda: sharing, generator()))
    for module in (*learner.networks.values(), *learner.targets.copies.values()):
        module.double()
    sharing.main_losses, sharing.diversities = sharing.main_losses.double(), sharing.diversities.double()
    learner.rewards.double().count.fill_(1e-4)  # how theirs begin
    networks = parameters_of(learner.agents.body, learner.team.body)
    targets = parameters_of(learner.targets["agents"], learner.targets["mixer"])
    take(networks, ours({name: golden[name] for name in networks}))
    take(targets, ours({name: golden[f"target_{name}"] for name in targets}))
    return learner


def parameters_of(body: nn.Module, mixer: nn.Module) -> dict[str, nn.Parameter]:
    assert isinstance(body, RecurrentMlp) and isinstance(mixer, MonotonicMixer)
    agents = {f"agent.{name}": parameter for name, parameter in agent_parameters(body).items()}
    return agents | {f"mixer.{name}": parameter for name, parameter in mixer_parameters(mixer).items()}


def trials_of(golden: Arrays) -> Trials:
    """Their batch. Steps that were never played, after an episode's end, are those that nobody was there in."""
    batch = {name: x.transpose(0, 1) for name, x in part(golden, "batch.").items()}  # (T + 1, B, ...)
    legal = batch["avail_actions"].bool()
    shape = (*batch["actions"][:-1].shape[:2], N)
    there = golden["mask"][..., 0].T.bool().unsqueeze(-1).expand(shape)
    terminated = batch["terminated"][:-1, :, 0].bool()
    steps = Step(
        obs=batch["obs"][:-1],
        next_obs=batch["obs"][1:],
        state=batch["state"][:-1],
        next_state=batch["state"][1:],
        action=batch["actions"][:-1, ..., 0],
        legal=legal[:-1],
        next_legal=legal[1:],
        reward=batch["reward"][:-1].expand(shape),
        terminated=terminated,
        truncated=torch.zeros_like(terminated),
        episode_start=torch.zeros_like(terminated),
        alive=there,
        next_alive=torch.ones_like(there),
    )
    nothing = steps.obs.new_zeros(6, 4, 0)
    return Trials(steps, TaskLatent(nothing, nothing.unsqueeze(2).expand(-1, -1, N, -1)))


@pytest.fixture
def golden() -> Arrays:
    return load("kalei_qmix_learner")


@pytest.fixture
def learner(golden: Arrays, monkeypatch: pytest.MonkeyPatch) -> Qmix:
    """Its rewards' variance, batch by batch, is over n - 1 entries, as theirs; ours is over n."""
    of_batch = RunningMoments._of_batch

    def theirs(moments: RunningMoments, x: Tensor, where: Tensor | None) -> Moments:
        n, mean, var = of_batch(moments, x, where)
        return Moments(n, mean, var * n / (n - 1))

    monkeypatch.setattr(RunningMoments, "_of_batch", theirs)
    return learner_of(golden)


def test_values_along_trials_and_those_of_what_follows(golden: Arrays, learner: Qmix) -> None:
    trials = trials_of(golden)
    views = learner.views(trials.steps, trials.latent)
    for body, expected in ((learner.agents.body, golden["q"]), (learner.targets["agents"], golden["target_q"])):
        with torch.no_grad():
            along = learner.unrolled(body, views)
            after = learner.after(body, views, along)
        close(along[0].transpose(0, 1), expected[:, :-1])
        close(after.transpose(0, 1), expected[:, 1:])


def test_targets_on_standardised_rewards(golden: Arrays, learner: Qmix) -> None:
    trials = trials_of(golden)
    views = learner.views(trials.steps, trials.latent)
    learner.rewards.update(of_team(trials.steps, learner.spec).unsqueeze(-1))
    with torch.no_grad():
        target = learner.target(trials.steps, trials.latent, views, learner.unrolled(learner.agents.body, views))
    mask = golden["mask"][..., 0].bool()
    close(target.T[mask], golden["y"][..., 0][mask])
    moments = torch.cat([learner.rewards.mean, learner.rewards.var, learner.rewards.count])
    close(moments, golden["reward_ms"])


def test_losses_gradients_and_two_steps(golden: Arrays, learner: Qmix, monkeypatch: pytest.MonkeyPatch) -> None:
    trials, parameters = trials_of(golden), parameters_of(learner.agents.body, learner.team.body)
    before: list[dict[str, Tensor]] = []  # gradients before clipping
    clip = nn.utils.clip_grad_norm_

    def watched(given: list[nn.Parameter], norm: float) -> Tensor:
        before.append({name: p.grad.clone() for name, p in parameters.items() if p.grad is not None})
        return clip(given, norm)

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", watched)
    for expected in golden["losses"]:
        found = learner.learn(trials)
        diversity, coefficient = (torch.as_tensor(found[f"sharing/{name}"]) for name in ("diversity", "coefficient"))
        loss = torch.as_tensor(found["train/td_loss"])
        norm = torch.as_tensor(found["train/actor_grad_norm"])
        close(torch.stack([loss, -diversity, coefficient, loss - coefficient * diversity, norm]), expected)
    for name, gradient in ours(part(golden, "grad.")).items():
        close(before[0][name], gradient)
    for name, parameter in ours(part(golden, "after2.")).items():
        close(parameters[name], parameter)
    close(torch.cat([learner.rewards.mean, learner.rewards.var, learner.rewards.count]), golden["reward_ms_after2"])
