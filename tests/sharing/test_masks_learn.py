"""Do agents that must act differently, and cannot know who they are, come to differ by their masks?"""

from __future__ import annotations

import pytest
import torch

from mg2l_kalei.sharing.kaleidoscope import mask_differences, masked_layers
from mg2l_kalei.training.meta_trainer import MetaTrainer
from mg2l_kalei.types import Metrics
from tests.training.trainers import load_words, make_trainer

N_ITERS = 40
WORDS = (
    "--algo=kaleidoscope",
    "--env=toy-turns",
    "network.agent_id=false",
    "network.hidden=[32,32]",
    "n_rows=32",
    "n_epochs=4",
    "n_minibatches=4",
    f"n_iters={N_ITERS}",
    "device=cpu",
)
OPTIMUM, INDISTINCT = 8.0, 4.0  # of agents that tell themselves apart, and of those that act alike


def followed(*words: str) -> tuple[MetaTrainer, list[Metrics]]:
    """The trainer, and what each iteration logged."""
    trainer = make_trainer(load_words(*WORDS, *words))
    return trainer, [trainer.iterate() for _ in range(N_ITERS)]


def in_the_end(logged: list[Metrics]) -> float:
    """The mean return of the last five rollouts."""
    return sum(float(metrics["train/episode_return"]) for metrics in logged[-5:]) / 5


def trained(*words: str) -> tuple[MetaTrainer, float]:
    trainer, logged = followed(*words)
    return trainer, in_the_end(logged)


@pytest.fixture(scope="module")
def learnt() -> tuple[MetaTrainer, float]:
    return trained()


def test_full_sharing_cannot() -> None:
    assert trained("sharing=full")[1] < INDISTINCT + 0.5


def test_masks_come_to_differ_and_reach_what_separate_networks_do(learnt: tuple[MetaTrainer, float]) -> None:
    trainer, reached = learnt
    difference = mask_differences(trainer.system.learner.actor)[0, 1]
    assert reached > 0.9 * OPTIMUM and difference > 0.1


def test_masks_carry_the_role(learnt: tuple[MetaTrainer, float]) -> None:
    """With each other's masks, agents act as the other should."""
    actor, cue = learnt[0].system.learner.actor, torch.eye(4)[:, None].expand(4, 2, 4)
    latent = torch.zeros(4, 2, 0)

    def actions() -> torch.Tensor:
        return actor(cue, latent)[0].mode()

    own = actions()
    assert torch.equal(own, (torch.arange(4)[:, None] + torch.arange(2)) % 4)
    with torch.no_grad():
        for layer in masked_layers(actor):
            layer.thresholds.copy_(layer.thresholds.flip(0))
    others = actions()
    with torch.no_grad():
        for layer in masked_layers(actor):
            layer.thresholds.copy_(layer.thresholds.flip(0))
    assert torch.equal(others, own.flip(1))


def test_masks_are_of_use_after_resets() -> None:
    trainer, logged = followed("sharing.reset_interval=1000", "sharing.reset_probability=0.5")
    assert sum(float(metrics.get("sharing/reset_weights", 0.0)) for metrics in logged) > 9
    assert in_the_end(logged) > 0.9 * OPTIMUM
    assert mask_differences(trainer.system.learner.actor)[0, 1] > 0.1
