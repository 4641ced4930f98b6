"""Do poolings over time give what their formulas say, streamed or at once?"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from mg2l_kalei.encoders.gaussian_product import FACTOR_LOG_STD, GaussianProductPooling, ProductOverAgents
from mg2l_kalei.encoders.pooling import (
    LOGIT_BOUND,
    MANY_STEPS,
    AttentionPooling,
    Pooling,
    RecurrentPooling,
    WindowedAttentionPooling,
    sums_to,
)
from mg2l_kalei.encoders.regression import RegressionPooling
from mg2l_kalei.encoders.retention import CHUNK, RetentionPooling
from mg2l_kalei.encoders.transformer import TransformerPooling
from tests.small_systems import draw, generator

DIM, HEADS, T, B, N = 6, 2, 7, 2, 3

POOLINGS: dict[str, Callable[[], Pooling]] = {
    "attention": lambda: AttentionPooling(DIM, HEADS, generator()),
    "windowed": lambda: WindowedAttentionPooling(DIM, HEADS, generator(), window=3, n_blocks=2),
    "recurrent": lambda: RecurrentPooling(DIM, generator()),
    "regression": lambda: RegressionPooling(DIM - 1, DIM, generator()),
    "product": lambda: GaussianProductPooling(DIM, DIM // 2, generator()),
    "transformer": lambda: TransformerPooling(DIM, HEADS, generator(), window=3, n_blocks=2),
    "retention": lambda: RetentionPooling(DIM, HEADS, generator()),
}
every_pooling = pytest.mark.parametrize("make", POOLINGS.values(), ids=POOLINGS)


def streamed(pooling: Pooling, embeddings: Tensor, alive: Tensor | None = None) -> Tensor:
    """(T, ..., dim) -> what is known after each length: (T + 1, ..., dim)."""
    state = pooling.initial(tuple(embeddings.shape[1:-1]))
    known = [pooling.read(state)]
    for embedding, is_there in zip(embeddings, all_of(embeddings) if alive is None else alive, strict=True):
        state = pooling.add(state, embedding, is_there)
        known.append(pooling.read(state))
    return torch.stack(known)


def all_of(embeddings: Tensor) -> Tensor:
    """Everybody is there: (T, ...) bool."""
    return torch.ones(embeddings.shape[:-1], dtype=torch.bool)


def away() -> Tensor:
    """Who is there, (T, B, N): agents leave and come back at different times; one is never there, one always."""
    alive = torch.ones(T, B, N, dtype=torch.bool)
    alive[2:4, 0, 0] = alive[:3, 1, 1] = alive[3:, 1, 2] = alive[1::2, 0, 2] = False
    alive[:, 1, 0] = False
    return alive


@every_pooling
def test_prefixes_equal_streaming_at_any_lengths(make: Callable[[], Pooling]) -> None:
    pooling, embeddings = make(), draw(T, B, N, DIM)
    expected = streamed(pooling, embeddings)
    for lengths in (torch.arange(T + 1), torch.tensor([0]), torch.tensor([1, 2, 4, 7]), torch.tensor([3, 3, 5])):
        torch.testing.assert_close(
            pooling.prefixes(embeddings, lengths, all_of(embeddings)), expected[lengths], rtol=1e-5, atol=1e-5
        )


@every_pooling
def test_streaming_equals_batch_where_agents_leave_and_come_back(make: Callable[[], Pooling]) -> None:
    pooling, embeddings, alive = make(), draw(T, B, N, DIM), away()
    expected = streamed(pooling, embeddings, alive)
    for lengths in (torch.arange(T + 1), torch.tensor([0]), torch.tensor([1, 2, 4, 7]), torch.tensor([3, 3, 5])):
        got = pooling.prefixes(embeddings, lengths, alive)
        torch.testing.assert_close(got, expected[lengths], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected, streamed(pooling, embeddings), atol=1e-3)


@pytest.mark.parametrize("name", [name for name in POOLINGS if name != "windowed"])
def test_what_an_agent_that_is_away_would_see_is_as_if_it_were_not_there(name: str) -> None:
    """Row by row and agent by agent, what is known is what its own embeddings say, without gaps."""
    pooling, embeddings, alive = POOLINGS[name](), draw(T, B, N, DIM), away()
    known = pooling.prefixes(embeddings, torch.tensor([T]), alive)[0]
    for row, agent in product(range(B), range(N)):
        own = embeddings[alive[:, row, agent], row, agent].unsqueeze(1)
        torch.testing.assert_close(known[row, agent], streamed(pooling, own)[-1, 0], rtol=1e-5, atol=1e-5)


def test_a_window_is_of_steps_that_an_agent_lived_through() -> None:
    pooling, embeddings, alive = POOLINGS["windowed"](), draw(T, B, N, DIM), away()
    known = pooling.prefixes(embeddings, torch.tensor([T]), alive)[0]
    for row, agent in product(range(B), range(N)):
        own = embeddings[:, row, agent][alive[:, row, agent]][-3:].unsqueeze(1)
        torch.testing.assert_close(known[row, agent], streamed(pooling, own)[-1, 0], rtol=1e-5, atol=1e-5)


def known_and_gradients(pooling: Pooling, embeddings: Tensor, alive: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What is known at all lengths, at once and streamed; gradients by embeddings that are there, and by weights."""
    leaf = embeddings.clone().requires_grad_()
    known = torch.stack([pooling.prefixes(leaf, torch.arange(T + 1), alive), streamed(pooling, leaf, alive)])
    by, *by_weights = torch.autograd.grad((known * draw(*known.shape, seed=3)).sum(), [leaf, *pooling.parameters()])
    assert (by[~alive] == 0).all()
    return known.detach(), [by[alive], *by_weights]


LEFT_OUT = [*product(POOLINGS, (0.0, 1e6)), *product(["regression"], (math.inf, math.nan))]


@pytest.mark.parametrize(("name", "left_out"), LEFT_OUT)
def test_what_is_left_out_plays_no_part_and_gets_no_gradient(name: str, left_out: float) -> None:
    """Embeddings are finite; regression alone, which does not bound what it sums up, does not rely on it."""
    pooling, embeddings, alive = POOLINGS[name](), draw(T, B, N, DIM), away()
    known, gradients = known_and_gradients(pooling, embeddings, alive)
    embeddings[~alive] = left_out
    again, others = known_and_gradients(pooling, embeddings, alive)
    assert torch.equal(known, again)
    assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))


@every_pooling
def test_a_state_is_not_changed_by_what_comes_after_it(make: Callable[[], Pooling]) -> None:
    pooling, embeddings = make(), draw(2, B, N, DIM)
    everyone = torch.ones(B, N, dtype=torch.bool)
    state = pooling.add(pooling.initial((B, N)), embeddings[0], everyone)
    before = pooling.read(state)
    pooling.add(state, embeddings[1], everyone)
    assert torch.equal(pooling.read(state), before)


@every_pooling
def test_initial_weights_leave_the_global_generator_alone(make: Callable[[], Pooling]) -> None:
    before = torch.get_rng_state()
    first, second = make(), make()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@every_pooling
def test_huge_embeddings_stay_finite(make: Callable[[], Pooling]) -> None:
    known = streamed(make(), 1e4 * draw(200, 1, DIM))
    assert known.isfinite().all()


def test_attention_is_a_softmax_over_the_context_and_the_token() -> None:
    pooling, embeddings = AttentionPooling(DIM, HEADS, generator()), draw(T, DIM)
    with torch.no_grad():
        pooling.token.copy_(draw(DIM, seed=1))
        everything = torch.cat([pooling.token.unsqueeze(0), embeddings])  # (1 + T, dim)
        weights = (LOGIT_BOUND * torch.tanh(pooling.query(everything) / LOGIT_BOUND)).softmax(0)  # (1 + T, H)
        values = pooling.value(everything).unflatten(-1, (HEADS, -1))  # (1 + T, H, dim / H)
        expected = pooling.output((weights.unsqueeze(-1) * values).sum(0).flatten())
        got = pooling.prefixes(embeddings, torch.tensor([T]), all_of(embeddings))[0]
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_how_much_evidence_there_is_shows() -> None:
    known = streamed(AttentionPooling(DIM, HEADS, generator()), draw(1, DIM).expand(40, DIM))
    from_end = (known - known[-1]).norm(dim=-1)
    assert (from_end[1:-1] < from_end[:-2]).all() and from_end[1] > 0.1 * from_end[0]


@pytest.mark.parametrize("n_steps", [T, MANY_STEPS + 1])
def test_sums_up_to_each_length_equal_a_loop(n_steps: int) -> None:
    x = draw(n_steps, 2, 3)
    for lengths in ([0, 1, 4, n_steps], [n_steps], [0], [2, 2, 6]):
        expected = torch.stack([x[:length].sum(0) for length in lengths])
        torch.testing.assert_close(sums_to(x, torch.tensor(lengths)), expected, rtol=1e-5, atol=1e-5)


def test_a_product_of_gaussians_has_the_density_of_all_factors_and_of_the_prior() -> None:
    pooling, embeddings = GaussianProductPooling(DIM, DIM // 2, generator()), draw(T, DIM)
    mean, log_std = pooling.prefixes(embeddings, torch.tensor([T]), all_of(embeddings))[0].chunk(2, dim=-1)
    means, log_stds = pooling.factor(embeddings).chunk(2, dim=-1)
    normal, points = torch.distributions.Normal, torch.tensor([-0.7, 0.0, 1.3]).unsqueeze(-1)
    log_std_of_all = log_stds.clamp(*FACTOR_LOG_STD).exp()
    factors = normal(means, log_std_of_all).log_prob(points.unsqueeze(1)).sum(1) + normal(0, 1).log_prob(points)
    ratio = factors - normal(mean, log_std.exp()).log_prob(points)  # the same at all points
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-4, atol=1e-4)


def test_the_teams_product_is_that_of_all_its_agents_transitions() -> None:
    pooling, embeddings = GaussianProductPooling(DIM, DIM // 2, generator()), draw(T, N, DIM)
    of_agents = pooling.prefixes(embeddings, torch.tensor([T]), all_of(embeddings))[0]  # (N, dim)
    together = embeddings.flatten(0, 1)
    of_all = pooling.prefixes(together, torch.tensor([len(together)]), all_of(together))[0]
    torch.testing.assert_close(ProductOverAgents().pool(of_agents), of_all, rtol=1e-5, atol=1e-5)


def test_retention_is_its_recurrence_across_chunks_too() -> None:
    pooling, embeddings = RetentionPooling(DIM, HEADS, generator()), draw(2 * CHUNK + 3, 2, DIM)
    lengths = torch.tensor([0, 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
    got = pooling.prefixes(embeddings, lengths, all_of(embeddings))
    torch.testing.assert_close(got, streamed(pooling, embeddings)[lengths], rtol=1e-4, atol=1e-5)


def test_a_transformer_sees_as_far_back_as_its_blocks_windows_reach_and_never_ahead() -> None:
    pooling = TransformerPooling(DIM, HEADS, generator(), window=3, n_blocks=2)
    with torch.no_grad():
        pooling.distance_bias.copy_(draw(*pooling.distance_bias.shape))
    embeddings = draw(9, DIM).requires_grad_()
    known = pooling.prefixes(embeddings, torch.tensor([7]), all_of(embeddings))[0]
    (gradient,) = torch.autograd.grad(known @ draw(DIM, seed=1), embeddings)
    assert (gradient != 0).any(-1).tolist() == [False, False, True, True, True, True, True, False, False]
