"""Do gates mask columns by agent and task, and change nothing where they are open or not asked for?"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mg2l_kalei.networks import GroupedMlp, Memory, NetworkConfig, RecurrentMlp, TaskGates
from mg2l_kalei.sharing import SHARINGS

G, IN, OUT, SIZE, LATENT = 3, 5, 2, 8, 4
WIDTHS = (IN, SIZE, SIZE)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


def gates(kind: str = "full", members: tuple[int, ...] = (0, 1, 2)) -> TaskGates:
    sharing_class, config = SHARINGS[kind]
    return TaskGates(sharing_class(config, members, generator()), LATENT, WIDTHS)


def mlp(kind: str = "full") -> GroupedMlp:
    sharing_class, config = SHARINGS[kind]
    return GroupedMlp(sharing_class(config, range(G), generator()), IN, OUT, NetworkConfig(hidden=(SIZE, SIZE)))


@pytest.mark.parametrize("kind", SHARINGS)
def test_an_agents_gates_are_set_by_its_own_latent_alone(kind: str) -> None:
    latent = draw(6, G, LATENT).requires_grad_()
    of_obs, *_ = gates(kind)(latent)
    of_obs[:, 1].sum().backward()
    assert latent.grad is not None
    assert (latent.grad[:, 1] != 0).any() and (latent.grad[:, [0, 2]] == 0).all()


def test_agents_of_one_task_have_gates_of_their_own_and_those_of_one_member_have_the_same() -> None:
    same = draw(1, 1, LATENT).expand(1, G, LATENT)
    for gate in gates()(same):
        assert gate.min() > 0 and gate.max() < 2
        assert not torch.allclose(gate[:, 0], gate[:, 1])
    for gate in gates(members=(0, 1, 0))(same):
        torch.testing.assert_close(gate[:, 0], gate[:, 2], atol=1e-6, rtol=0)  # products may round by place


def test_without_a_latent_all_is_open_and_the_network_is_the_one_without_gates() -> None:
    network, x = mlp(), draw(4, G, IN)
    of_obs, *of_hidden = gates()(torch.zeros(4, G, LATENT))
    assert [gate.shape[-1] for gate in (of_obs, *of_hidden)] == list(WIDTHS)
    assert torch.equal(network(x * of_obs, of_hidden), network(x))


@pytest.mark.parametrize("kind", ["full", "kaleidoscope"])
def test_a_closed_gate_masks_a_column_of_the_next_layer(kind: str) -> None:
    network, x = mlp(kind), draw(4, G, IN)
    of_hidden = [torch.ones(4, G, SIZE), torch.ones(4, G, SIZE)]
    of_hidden[0][:, 1, 3] = 0.0
    closed = network(x, of_hidden)
    assert torch.equal(closed[:, [0, 2]], network(x)[:, [0, 2]])
    with torch.no_grad():
        network.get_parameter("hidden.1.0.weight")[:, 3] = 0.0
    torch.testing.assert_close(closed[:, 1], network(x)[:, 1])


def test_what_a_gru_reads_and_what_follows_it_are_gated() -> None:
    sharing_class, config = SHARINGS["full"]
    settings = NetworkConfig(hidden=(SIZE, SIZE), memory="episode")
    network = RecurrentMlp(sharing_class(config, range(G), generator()), IN, OUT, settings)
    x, memory = draw(5, 2, G, IN), Memory(draw(2, G, SIZE))
    open_, closed = torch.ones(5, 2, G, SIZE), torch.zeros(5, 2, G, SIZE)
    output, states = network(x, memory, [open_, open_])
    assert torch.equal(output, network(x, memory)[0])
    assert not torch.allclose(states, network(x, memory, [closed, open_])[1])
    after, same_states = network(x, memory, [open_, closed])
    assert torch.equal(states, same_states)
    torch.testing.assert_close(after, network.output.bias.expand_as(after))


def test_gates_are_of_the_group_that_an_agent_is_found_in() -> None:
    sharing_class, config = SHARINGS["seps"]
    made = TaskGates(sharing_class(config, (0, 1, 2), generator()), LATENT, WIDTHS)
    assert made.linear.places is not None
    made.linear.places.copy_(torch.tensor([0, 0, 1]))
    first, second, third = made(draw(1, 1, LATENT).expand(1, G, LATENT))[0][0]
    assert (first == second).all() and (first != third).any()
