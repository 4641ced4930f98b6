"""Are mask, activations, losses and gradients those of MARIE's published code, and does what is remembered agree?"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mg2l_kalei.losses.symlog import Bins
from mg2l_kalei.losses.temporal_difference import lambda_targets
from mg2l_kalei.world_models.marie.attention import attention_of
from mg2l_kalei.world_models.marie.imagination import Past, TokenDream
from mg2l_kalei.world_models.marie.network import Dynamics, mask
from mg2l_kalei.world_models.marie.prediction import Truth, losses, reward_loss
from mg2l_kalei.world_models.marie.team import MarieNetwork
from tests.world_models.marie_arrays import arrays, close, of_part
from tests.world_models.marie_weights import CONFIG, as_sequence, blocks_of, published

CASES = ("plain", "done")


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return arrays("wm_forward")


def outputs(dynamics: Dynamics, golden: dict[str, Tensor], case: str) -> Tensor:
    return dynamics(blocks_of(golden["action"].unsqueeze(-1), golden[f"{case}.done"]))


def truth(golden: dict[str, Tensor], case: str) -> Truth:
    """The published loss knows nothing of what the last action made legal."""
    legal = golden["legal"].transpose(0, 1)
    counts = torch.ones(3, 2, 2, dtype=torch.bool)
    done = golden[f"{case}.done"].transpose(0, 1)
    return Truth(
        golden["reward"].transpose(0, 1), done[..., 0].bool(), counts, torch.cat([legal[1:], legal[:1]]), counts
    )


@pytest.mark.parametrize("case", CASES)
def test_mask_activations_and_heads_are_the_published_ones(golden: dict[str, Tensor], case: str) -> None:
    dynamics, blocks = published(), blocks_of(golden["action"].unsqueeze(-1), golden[f"{case}.done"])
    x = dynamics.embedded(blocks)
    close(x[..., -1, :] - dynamics.positions(0, 3)[:, None, None, -1], golden["aggregated"].transpose(0, 1))
    close(as_sequence(x), golden["input_sequence"])
    own_mask = mask(blocks.episode, 2, 6).expand(4, 1, 18, 18).reshape(2, 2, 18, 18)
    assert own_mask.equal(golden[f"{case}.attention_mask"].bool())
    out = dynamics(blocks)
    close(as_sequence(out), golden[f"{case}.output_sequence"])
    outcome = dynamics.outcome(out[..., -1, :])
    close(outcome.reward.permute(1, 2, 0), golden[f"{case}.reward"])
    close(outcome.goes_on.permute(1, 2, 0), golden[f"{case}.logits_end"])
    assert outcome.legal is not None
    close(outcome.legal.permute(1, 2, 0, 3, 4), golden[f"{case}.logits_legal"])
    close(as_sequence(dynamics.next_token(out[..., [0, 1, 2, 5], :])), golden[f"{case}.logits_observation"])


def test_losses_and_gradients_are_the_published_ones(golden: dict[str, Tensor]) -> None:
    dynamics = published()
    blocks, known = blocks_of(golden["action"].unsqueeze(-1)), truth(golden, "plain")
    out = dynamics(blocks)
    own = losses(dynamics, blocks, out, known, bins=None)
    told = torch.ones(3, 2, 2, dtype=torch.bool)
    told[-1] = False
    own["legal"] = losses(dynamics, blocks, out, known._replace(counts=told), bins=None)["legal"]
    stored = of_part(golden, "plain.loss.")
    names = {"obs": "loss_obs", "reward": "loss_rewards", "goes_on": "loss_ends", "legal": "loss_av_actions"}
    for name, theirs in names.items():
        close(own[name], stored[theirs])
    total = torch.stack([own[name] for name in names]).sum()
    close(total, stored["total_loss"])
    total.backward()
    gradients = of_part(golden, "plain.grad.")
    assert dynamics.aggregator is not None
    own_key = attention_of(dynamics.transformer.layers[0]).key_value.weight.grad
    assert own_key is not None
    close(own_key[:32], gradients["transformer.layers.0.attention.key.weight"])
    for own_gradient, name in (
        (dynamics.aggregator.latents.grad, "aggregator.latents"),
        (dynamics.aggregator.cross.key_value.weight.grad, "aggregator.cross.key_value.weight"),
        (dynamics.obs.weight.grad, "embed.observation"),
    ):
        assert own_gradient is not None
        close(own_gradient, gradients[name])


@pytest.mark.parametrize("case", CASES)
def test_rewards_and_ends_cost_the_published_amounts_where_episodes_end(golden: dict[str, Tensor], case: str) -> None:
    dynamics, stored = published(), of_part(golden, f"{case}.loss.")
    blocks, known = blocks_of(golden["action"].unsqueeze(-1), golden[f"{case}.done"]), truth(golden, case)
    out = dynamics(blocks)
    outcome = dynamics.outcome(out[..., -1, :])
    close(reward_loss(outcome, known, None), stored["loss_rewards"])
    goes_on = 1 - golden[f"{case}.done"].permute(1, 0, 2)
    close(F.binary_cross_entropy_with_logits(outcome.goes_on, goes_on), stored["loss_ends"])


def test_reward_classes_cost_the_published_amount(golden: dict[str, Tensor]) -> None:
    target = Bins("a reward", 16, 3.0).probabilities(golden["reward"].transpose(1, 2), 0.75)
    logits = golden["plain.logits_reward_hlgauss"].flatten(0, 2)
    close(F.cross_entropy(logits, target.flatten(0, 2)), golden["plain.loss.reward_hlgauss"])


def test_continuous_actions_are_two_tokens_as_published(golden: dict[str, Tensor]) -> None:
    dynamics, stored = published(is_continuous=True), of_part(golden, "continuous.")
    tokens = Bins("an action", 8, 1.0, is_log=False).index(stored["action"].clamp(-1, 1))
    assert tokens.equal(stored["action_tokens"])  # one of them was beyond, and is clamped there too
    blocks = blocks_of(tokens)
    out = dynamics(blocks)
    close(as_sequence(dynamics.next_token(out[..., [0, 1, 2, 6], :])), stored["logits_observation"])
    close(dynamics.outcome(out[..., -1, :]).reward.permute(1, 2, 0), stored["reward"])


def test_another_agents_action_is_felt_through_the_aggregated_token_alone(golden: dict[str, Tensor]) -> None:
    dynamics, other = published(), golden["other_action.action"]
    before = as_sequence(outputs(dynamics, golden, "plain"))
    after = as_sequence(dynamics(blocks_of(other.unsqueeze(-1))))
    close(after, golden["other_action.output_sequence"])
    moved = (after - before).abs().amax(-1)[:, 0] > 1e-6  # (B, 18)   of agent 0
    assert moved[:, -1].all() and not moved[:, :-1].any()


def remembered(golden: dict[str, Tensor], n_past: int) -> tuple[TokenDream, MarieNetwork]:
    """After ``n_past`` of the arrays' steps."""
    network = MarieNetwork.__new__(MarieNetwork)
    torch.nn.Module.__init__(network)
    network.config, network.dynamics = CONFIG, published()
    blocks = blocks_of(golden["action"].unsqueeze(-1))
    known = torch.ones(n_past, 2, dtype=torch.bool)
    past = Past(blocks.obs[:n_past], blocks.action[:n_past], blocks.alive[:n_past], known)
    return TokenDream(network, blocks.latent, past, blocks.obs[n_past], blocks.alive[n_past]), network


@torch.no_grad()
def test_imagination_is_the_published_one(golden: dict[str, Tensor]) -> None:
    dream, _ = remembered(golden, 0)
    for s in range(3):
        outcome, logits = dream.advance(golden["action"][:, s].unsqueeze(-1))
        stored = of_part(golden, f"imagine.{s}.")
        close(outcome.reward, stored["reward"])
        close(torch.sigmoid(outcome.goes_on), stored["continue"])
        assert outcome.legal is not None and outcome.legal.argmax(-1).equal(stored["legal"])
        if s < 2:
            assert dream.observe(logits, dream.alive, torch.Generator()).equal(stored["obs_tokens"])


@torch.no_grad()
@pytest.mark.parametrize("n_past", [0, 1, 2])
def test_what_is_remembered_equals_what_is_computed_anew(golden: dict[str, Tensor], n_past: int) -> None:
    dream, network = remembered(golden, n_past)
    outcome, _ = dream.advance(golden["action"][:, n_past].unsqueeze(-1))
    whole = network.dynamics.outcome(outputs(network.dynamics, golden, "plain")[n_past, ..., -1, :])
    close(outcome.reward, whole.reward)
    close(outcome.goes_on, whole.goes_on)


def test_drawn_ends_have_the_published_returns_in_the_mean() -> None:
    """There the chance of going on is part of the discount; here rows end by it, and learners see ends."""
    stored = arrays("returns")
    reward, chance, value = (stored[name][:5].flatten(1) for name in ("reward", "continue", "value"))
    next_value = stored["value"][1:].flatten(1)
    expected = torch.zeros_like(value)
    cut = torch.zeros_like(value, dtype=torch.bool)
    for ends in itertools.product([False, True], repeat=5):
        terminated = torch.tensor(ends)[:, None].expand_as(value)
        weight = torch.where(terminated, 1 - chance, chance).prod(0)
        expected += weight * lambda_targets(reward, next_value, terminated, cut, gamma=0.99, td_lambda=0.95)
    close(expected.view_as(stored["lambda_return"]), stored["lambda_return"])
