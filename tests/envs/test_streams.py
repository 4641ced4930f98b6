"""Does each row read the stream as if all rows had restarted whenever it did?"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from envs.streams import Draw, Drawn, RowStreams

N_ROWS = 5
EVERYONE = torch.ones(N_ROWS, dtype=torch.bool)


def uniform(generator: torch.Generator) -> Drawn:
    return torch.rand(N_ROWS, 3, generator=generator), torch.randint(9, (N_ROWS,), generator=generator)


def normal(generator: torch.Generator) -> Drawn:
    """An odd number of them: the generator keeps one for later."""
    return (torch.empty(N_ROWS, 6)[:, 3:].normal_(generator=generator),)


def step_of(generator: torch.Generator) -> Drawn:
    return (torch.rand(N_ROWS, 2, generator=generator),)


def nothing(generator: torch.Generator) -> Drawn:
    return (torch.zeros(N_ROWS, 1),)


def read(ends: Sequence[Tensor], start: Draw, step: Draw) -> tuple[list[Tensor], torch.Generator]:
    """What rows draw, (B, ...) in turn: at first, and in steps and in restarts, where ``ends`` (B,) bool says."""
    generator = torch.Generator().manual_seed(0)
    streams = RowStreams(generator, N_ROWS)
    seen = list(streams.restart(start))
    for ended in ends:
        seen += streams.step(step)
        seen += [part * ended.view(-1, *[1] * (part.dim() - 1)) for part in streams.restart(start, ended)]
    return seen, generator


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("start", "step"), [(uniform, step_of), (normal, nothing)])
def test_a_row_reads_what_it_would_if_all_restarted_with_it(start: Draw, step: Draw, seed: int) -> None:
    ends = torch.rand(40, N_ROWS, generator=torch.Generator().manual_seed(seed)) < 0.2
    assert len(ends.sum(0).unique()) > 1
    seen, generator = read(list(ends), start, step)
    for row in range(N_ROWS):
        together, _ = read([ended[row].expand(N_ROWS) for ended in ends], start, step)
        assert all(torch.equal(a[row], b[row]) for a, b in zip(seen, together, strict=True))
    most = int(ends.sum(0).argmax())
    _, furthest = read([ended[most].expand(N_ROWS) for ended in ends], start, step)
    assert torch.equal(generator.get_state(), furthest.get_state())


def test_rows_in_step_read_the_generator_once_and_in_order() -> None:
    _, generator = read([~EVERYONE, EVERYONE, ~EVERYONE], uniform, step_of)
    expected = torch.Generator().manual_seed(0)
    for draw in (uniform, step_of, step_of, uniform, step_of):
        draw(expected)
    assert torch.equal(generator.get_state(), expected.get_state())


def test_restarting_nobody_leaves_the_stream_where_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    streams = RowStreams(generator, N_ROWS)
    streams.restart(uniform)
    before = generator.get_state()
    assert [part.shape for part in streams.restart(uniform, ~EVERYONE)] == [(N_ROWS, 3), (N_ROWS,)]
    assert torch.equal(generator.get_state(), before)


def test_a_common_start_needs_the_generator_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    streams, first = RowStreams(generator, N_ROWS), torch.arange(N_ROWS) == 0
    streams.restart(uniform)
    streams.restart(uniform, first)
    generator.manual_seed(7)
    (again, _), (expected, _) = streams.restart(uniform), uniform(torch.Generator().manual_seed(7))
    assert torch.equal(again, expected)
