"""Is each term of an encoder's loss of the pair, the label and the scale that it says?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from mg2l_kalei.encoders.figures import Reading, figures_of
from mg2l_kalei.encoders.mg2l import Mg2lEncoder
from mg2l_kalei.encoders.objectives.base import Inferred, Level
from mg2l_kalei.encoders.objectives.contrast import Classification, Contrast
from mg2l_kalei.encoders.objectives.local import LocalContrast
from mg2l_kalei.encoders.objectives.prediction import N_PREDICTED
from mg2l_kalei.encoders.transitions import present
from mg2l_kalei.losses.inference import Gaussian
from mg2l_kalei.types import Contexts
from tests.small_systems import as_contexts, draw, generator, make_encoder, random_rollout
from tests.training.trainers import load_words

TASK = torch.tensor([0, 1, 0, 1])  # contexts 0 and 2 are a pair, and 1 and 3
PROTOTYPES = draw(2, 5, seed=7)
CONFIG: Any = SimpleNamespace(pairwise_coef=2.0, prototype_coef=3.0, temperature=0.5, posterior="deterministic")


def inferred(**parts: Any) -> Inferred:
    return Inferred(**(dict.fromkeys(Inferred._fields) | parts))  # type: ignore[arg-type]


def level(z: Tensor) -> Level:
    return Level(Gaussian(z, torch.zeros_like(z)), z)


def likeness(a: Tensor, b: Tensor) -> Tensor:
    """Cosine over temperature, exponentiated."""
    return torch.exp((a * b).sum() / a.norm() / b.norm() / CONFIG.temperature)


def contrast_by_hand(z: Tensor) -> Tensor:
    """z (4, dim): queries 0 and 1, keys 2 and 3; then all of them against prototypes."""
    pairs = [likeness(z[r], z[r + 2]) / (likeness(z[r], z[2]) + likeness(z[r], z[3])) for r in (0, 1)]
    keys = [
        likeness(z[r], PROTOTYPES[int(TASK[r])]) / (likeness(z[r], PROTOTYPES[0]) + likeness(z[r], PROTOTYPES[1]))
        for r in range(4)
    ]
    return -2.0 * torch.stack(pairs).log().mean() - 3.0 * torch.stack(keys).log().mean()


def test_contrast_is_between_the_two_contexts_of_a_pair_and_with_the_tasks_prototype() -> None:
    z = draw(1, 4, 5)
    given = inferred(all_global=level(z), task=TASK, prototypes=PROTOTYPES)
    loss, _ = Contrast(CONFIG, None, generator()).loss(given)  # type: ignore[arg-type]
    torch.testing.assert_close(loss, contrast_by_hand(z[0]))


def test_local_contrast_is_each_agents_own() -> None:
    z = draw(1, 4, 3, 5)
    given = inferred(all_global=level(draw(1, 4, 5)), all_local=level(z), task=TASK, prototypes=PROTOTYPES)
    loss, _ = LocalContrast(CONFIG, None, generator()).loss(given)  # type: ignore[arg-type]
    torch.testing.assert_close(loss, torch.stack([contrast_by_hand(z[0, :, i]) for i in range(3)]).mean())


def test_classification_is_of_the_contexts_own_task() -> None:
    z, width = draw(2, 4, 5), SimpleNamespace(n_tasks=2)
    objective = Classification(SimpleNamespace(latent_dim=5), width, generator())  # type: ignore[arg-type]
    contexts = Contexts(None, TASK)  # type: ignore[arg-type]
    loss, _ = objective.loss(inferred(contexts=contexts, global_=level(z)))
    chances = objective.network(z).softmax(-1)[:, range(4), TASK]
    torch.testing.assert_close(loss, -chances.log().mean())


@pytest.mark.parametrize(("name", "shift"), [("dynamics", 0), ("prediction", 3)])
def test_what_is_predicted_is_of_its_own_context_or_of_the_paired_one(name: str, shift: int) -> None:
    """Of six contexts in three pairs."""
    contexts = as_contexts(random_rollout(n_rows=6))
    encoder = make_encoder("mg2l", objectives=(name,), prediction_coef=1.0, posterior="deterministic")
    assert isinstance(encoder, Mg2lEncoder)
    (objective,) = encoder.objectives
    outcomes: list[Tensor] = []
    latents: list[Tensor] = []

    class Watched(torch.nn.Module):
        def forward(self, given: Tensor, outcome: Tensor, z: Tensor, counts: Tensor | None) -> Tensor:
            outcomes.append(outcome)
            latents.append(z)
            return z.sum()

    objective.network = Watched()
    encoder.loss(contexts, generator())
    _, own = encoder.transition_encoder.given_and_outcome(contexts.transition)
    expected = torch.stack([own[-N_PREDICTED:, (r + shift) % 6] for r in range(6)], dim=1)
    assert outcomes and all(torch.equal(outcome, expected) for outcome in outcomes)
    torch.testing.assert_close(latents[0][-1, :, 0], encoder.encode(contexts).global_)
    assert present(contexts.transition, encoder.processes) is None, "all count here"


def test_varibads_divergences_are_divided_by_the_trials_length() -> None:
    """As what is decoded from each belief is, which is a sum over the trial's steps in the paper and a mean here."""
    contexts = as_contexts(random_rollout(n_rows=6))  # of 9 steps
    encoder = make_encoder("mg2l", objectives=("trajectory",), kl_coef=5.0)
    _, metrics = encoder.loss(contexts, generator())
    surprise, kl = (torch.as_tensor(metrics[f"encoder/{x}"]) for x in ("trajectory_surprise", "kl_to_previous"))
    torch.testing.assert_close(torch.as_tensor(metrics["encoder/loss"]), surprise + 5.0 * kl / 9)


def test_what_each_agent_shares_with_the_team_is_taken_from_what_the_team_knows() -> None:
    """z tells four tasks apart for certain; so does every z^i, or none."""
    corner = 40 * torch.eye(4).repeat(16, 1)
    task = torch.arange(4).repeat(16)
    known = Gaussian(corner, torch.full_like(corner, -2.0))
    left = []
    for local in (corner, draw(64, 4)):
        of_agents = local.unsqueeze(1).expand(-1, 2, -1)
        reading = Reading(known, Gaussian(of_agents, torch.zeros_like(of_agents)), task)
        left.append(figures_of(reading, reading, (known.mean, of_agents), 0.1))
    information = float(left[0]["encoder/information"])
    assert information == pytest.approx(torch.tensor(4.0).log().item(), abs=0.1)
    assert float(left[0]["encoder/conditional_information"]) == pytest.approx(0, abs=0.1)
    assert float(left[1]["encoder/conditional_information"]) > information - 0.1


@pytest.mark.parametrize("algo", ["varibad", "mate"])
def test_rivals_that_give_the_encoder_no_gradient_of_values_are_recurrent(algo: str) -> None:
    config: Any = load_words(f"--algo={algo}", "--env=toy-corners")
    assert (config.learner.encoder_epochs, config.encoder.pooling, config.context.order) == (0, "recurrent", "trial")
