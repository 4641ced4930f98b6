"""Do poolings over time give what their formulas say, streamed or at once?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

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
from tests.small_systems import draw, generator

DIM, HEADS, T, B, N = 6, 2, 7, 2, 3

POOLINGS: dict[str, Callable[[], Pooling]] = {
    "attention": lambda: AttentionPooling(DIM, HEADS, generator()),
    "windowed": lambda: WindowedAttentionPooling(DIM, HEADS, generator(), window=3, n_blocks=2),
    "recurrent": lambda: RecurrentPooling(DIM, generator()),
    "regression": lambda: RegressionPooling(DIM - 1, DIM, generator()),
}
every_pooling = pytest.mark.parametrize("make", POOLINGS.values(), ids=POOLINGS)


def streamed(pooling: Pooling, embeddings: Tensor) -> Tensor:
    """(T, ..., dim) -> what is known after each length: (T + 1, ..., dim)."""
    state = pooling.initial(tuple(embeddings.shape[1:-1]))
    known = [pooling.read(state)]
    for embedding in embeddings:
        state = pooling.add(state, embedding)
        known.append(pooling.read(state))
    return torch.stack(known)


@every_pooling
def test_prefixes_equal_streaming_at_any_lengths(make: Callable[[], Pooling]) -> None:
    pooling, embeddings = make(), draw(T, B, N, DIM)
    expected = streamed(pooling, embeddings)
    for lengths in (torch.arange(T + 1), torch.tensor([0]), torch.tensor([1, 2, 4, 7]), torch.tensor([3, 3, 5])):
        torch.testing.assert_close(pooling.prefixes(embeddings, lengths), expected[lengths], rtol=1e-5, atol=1e-5)


@every_pooling
def test_a_state_is_not_changed_by_what_comes_after_it(make: Callable[[], Pooling]) -> None:
    pooling, embeddings = make(), draw(2, B, N, DIM)
    state = pooling.add(pooling.initial((B, N)), embeddings[0])
    before = pooling.read(state)
    pooling.add(state, embeddings[1])
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
        torch.testing.assert_close(pooling.prefixes(embeddings, torch.tensor([T]))[0], expected, rtol=1e-5, atol=1e-5)


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
