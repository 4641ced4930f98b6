"""Are the running moments those of numpy, and does decay follow a drift?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mg2l_kalei.networks import RunningMoments


def stream(n: int = 500, size: int = 3, seed: int = 0) -> Tensor:
    """Features of unlike scales."""
    x = torch.randn(n, size, generator=torch.Generator().manual_seed(seed))
    return x * torch.tensor([1.0, 100.0, 0.01]) + torch.tensor([0.0, 1e4, 3.0])


@pytest.mark.parametrize("batches", [1, 7, 500])
def test_moments_equal_numpys_however_the_stream_is_cut(batches: int) -> None:
    moments, x = RunningMoments(3), stream()
    for batch in x.tensor_split(batches):
        moments.update(batch)
    np.testing.assert_allclose(moments.mean.numpy(), x.double().numpy().mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(moments.var.numpy(), x.double().numpy().var(0), rtol=1e-9)
    assert moments.count.tolist() == [len(x)] * 3


def test_all_axes_but_the_last_are_one_batch() -> None:
    flat, shaped = RunningMoments(3), RunningMoments(3)
    flat.update(stream())
    shaped.update(stream().view(5, 50, 2, 3))
    assert torch.equal(flat.mean, shaped.mean) and torch.equal(flat.var, shaped.var)


def test_normalised_values_have_mean_zero_and_deviation_one() -> None:
    moments, x = RunningMoments(3), stream()
    moments.update(x)
    y = moments.normalise(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.mean(0), torch.zeros(3), rtol=0, atol=1e-3)
    torch.testing.assert_close(y.std(0), torch.ones(3), rtol=1e-2, atol=0)


def test_denormalise_inverts_normalise() -> None:
    moments, x = RunningMoments(3), stream()
    moments.update(x)
    torch.testing.assert_close(moments.denormalise(moments.normalise(x)), x)


def test_nothing_seen_changes_nothing() -> None:
    moments, x = RunningMoments(3), stream()
    assert torch.equal(moments.normalise(x), x)
    moments.update(x[:0])
    assert torch.equal(moments.normalise(x), x)


def test_clip_bounds_and_a_constant_feature_stays_finite() -> None:
    moments = RunningMoments(1, clip=5.0)
    moments.update(torch.full((10, 1), 7.0))
    assert moments.normalise(torch.tensor([[7.0], [7.1], [-1e9]])).tolist() == [[0.0], [5.0], [-5.0]]


@pytest.mark.parametrize("decay", [1.0, 0.9])
def test_decay_weighs_a_batch_down_at_each_update_after_it(decay: float) -> None:
    moments, batches = RunningMoments(3, decay=decay), stream().tensor_split(5)
    for batch in batches:
        moments.update(batch)
    weights = np.repeat([decay ** (4 - i) for i in range(5)], 100)
    x = stream().double().numpy()
    mean = np.average(x, axis=0, weights=weights)
    np.testing.assert_allclose(moments.mean.numpy(), mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(moments.var.numpy(), np.average((x - mean) ** 2, axis=0, weights=weights), rtol=1e-9)


def test_decay_follows_a_drift_that_plain_averages_lag() -> None:
    following, lagging = RunningMoments(1, decay=0.8), RunningMoments(1)
    for level in range(50):
        batch = torch.full((8, 1), float(level))
        following.update(batch)
        lagging.update(batch)
    assert following.mean.item() > 44 > 25 > lagging.mean.item()


def test_restored_moments_go_on_as_the_saved_ones() -> None:
    saved, restored, x = RunningMoments(3, decay=0.9), RunningMoments(3, decay=0.9), stream()
    saved.update(x[:100])
    restored.load_state_dict(saved.state_dict())
    saved.update(x[100:])
    assert not torch.equal(saved.mean, restored.mean)
    restored.update(x[100:])
    assert torch.equal(saved.mean, restored.mean) and torch.equal(saved.var, restored.var)


def test_updates_take_no_gradient() -> None:
    moments = RunningMoments(3)
    moments.update(stream().requires_grad_())
    assert not moments.mean.requires_grad
