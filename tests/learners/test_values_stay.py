"""Do values stay within what rewards allow, where bootstrapping could let them run away?"""

from __future__ import annotations

import pytest

from tests.small_systems import make_encoder, make_learner
from tests.training.trainers import load_words, make_trainer

FEW_STEPS = ("n_rows=8", "env.episode_steps=10", "n_epochs=1", "n_minibatches=1", "device=cpu")
FEW_CONTEXTS = ("context.n_updates=1", "context.n_early_updates=1")


def test_an_encoder_that_the_value_loss_trains_does_not_run_away_with_the_values() -> None:
    """With one step of both in each update and at one rate, values of rewards of -3 were -1e3 by then, and -1e6 later.

    The least that a value can be is what the worst pay of the run is worth for ever.
    """
    trainer = make_trainer(load_words("--algo=mg2l_kalei", "--env=mpe-spread", *FEW_STEPS, *FEW_CONTEXTS))
    returns, values = [], []
    for _ in range(57):
        metrics = trainer.iterate()
        returns.append(float(metrics["train/episode_return"]))
        values.append(float(metrics["train/value"]))
    gamma, worst = trainer.system.config.learner.gamma, min(returns) / 10
    assert worst / (1 - gamma) < min(values) and max(values) < 1.0


@pytest.mark.parametrize(("n_epochs", "n_minibatches", "share"), [(1, 1, 0.1), (1, 4, 0.4), (2, 5, 1.0), (5, 16, 1.0)])
def test_the_encoder_steps_at_the_critics_rate_where_the_critic_makes_enough_steps(
    n_epochs: int, n_minibatches: int, share: float
) -> None:
    encoder = make_encoder("mg2l")
    learner = make_learner(encoder, n_epochs=n_epochs, n_minibatches=n_minibatches, critic_lr=1e-3)
    own, *_, of_encoder = learner.optimisers["critic"].rates
    assert own == 1e-3 and of_encoder == pytest.approx(share * 1e-3)
