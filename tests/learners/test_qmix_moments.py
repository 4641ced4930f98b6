"""Does QMIX see each step with the latents, local and global, of that very moment?"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mg2l_kalei.learners.qmix import Qmix
from mg2l_kalei.learners.replayed import Trials
from mg2l_kalei.types import TaskLatent
from tests.small_systems import DISCRETE, make_encoder, make_learner, random_rollout, with_steps

MOMENT = 4


def seen(learner: Qmix, trials: Trials) -> tuple[Tensor, Tensor, Tensor]:
    """Of each step: values of actions (T, B, N, A), and the team's value and what it is to be, (T, B) each."""
    steps, latent = trials.steps, trials.latent
    with torch.no_grad():
        views = learner.views(steps, latent)
        q, states = learner.unrolled(learner.agents.body, views)
        chosen = q.gather(-1, steps.action.unsqueeze(-1)).squeeze(-1)
        value = learner.team.body(chosen, learner.team.seen(steps.state, latent.global_[:-1]))
    return q, value, learner.target(steps, latent, views, (q, states))


@pytest.mark.parametrize(("layer", "moved"), [("local", (True, True, True)), ("global_", (False, True, True))])
def test_a_latent_counts_in_its_own_step_and_in_what_the_step_before_leads_to(
    layer: str, moved: tuple[bool, ...]
) -> None:
    encoder, rollout = make_encoder("mg2l", DISCRETE), random_rollout(DISCRETE)
    rollout = with_steps(rollout, terminated=torch.zeros_like(rollout.steps.terminated))
    learner = make_learner(encoder, DISCRETE, kind="qmix", gamma=0.9, standardise_rewards=False)
    assert isinstance(learner, Qmix)
    with torch.no_grad():
        latent = encoder.latents(rollout)
    other = getattr(latent, layer).clone()
    other[MOMENT] += 1
    changed: TaskLatent = latent._replace(**{layer: other})
    pairs = zip(*(seen(learner, Trials(rollout.steps, each)) for each in (latent, changed)), strict=True)
    steps = [(before != after).flatten(1).any(1).nonzero().flatten().tolist() for before, after in pairs]
    own, before = [MOMENT], [MOMENT - 1]
    assert steps == [found if is_moved else [] for found, is_moved in zip((own, own, before), moved, strict=True)]
