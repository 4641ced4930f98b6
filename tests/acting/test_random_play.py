"""Is random play random in all that may be done, and in nothing else?"""

from __future__ import annotations

import torch

from mg2l_kalei.acting.random_play import RandomPolicy
from tests.acting.watch import SPEC, N
from tests.small_systems import generator

B = 4000


def played(policy: RandomPolicy, legal: torch.Tensor | None = None) -> torch.Tensor:
    obs, latent = torch.zeros(B, N, policy.spec.obs_dim), torch.zeros(B, N, 0)
    return policy.act(obs, legal, latent, None, generator(), explore=None).action


def test_legal_actions_are_alike_and_others_are_never_played() -> None:
    legal = torch.ones(B, N, 3, dtype=torch.bool)
    legal[:, 0, 1] = False
    action = played(RandomPolicy(SPEC._replace(is_discrete=True, action_dim=3)), legal)
    share = torch.stack([(action == number).float().mean(0) for number in range(3)])  # (3, N)
    torch.testing.assert_close(share[:, 0], torch.tensor([0.5, 0.0, 0.5]), atol=0.05, rtol=0)
    torch.testing.assert_close(share[:, 1], torch.full((3,), 1 / 3), atol=0.05, rtol=0)


def test_continuous_ones_fill_their_range_and_padding_stays_at_rest() -> None:
    spec = SPEC._replace(is_discrete=False, action_dim=2, action_sizes=(2, 1, *[2] * (N - 2)))
    action = played(RandomPolicy(spec))
    assert (action[:, 1, 1] == 0).all() and action.abs().max() <= 1
    used = action[:, 0].flatten()
    assert abs(float(used.mean())) < 0.05 and abs(float(used.var()) - 1 / 3) < 0.02
