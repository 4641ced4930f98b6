"""Who moves: rware's resolution of conflicts, compiled.

Every agent has one wish, a cell: the one ahead, or its own where it does not want to move, faces a wall, or carries a
shelf towards one that stands. rware makes a graph of edges from cells to wished cells, and asks networkx about each of
its weakly connected components. As every cell has at most one edge out, a component either has exactly one cycle, or
is a tree whose edges lead to its root, an empty cell.

- A cycle of one is an agent that stays, and nobody behind it moves. Of two: agents who face each other; nobody moves.
  A longer one moves, and nobody else of its component.
- In a tree, the longest queue moves (``dag_longest_path``). Its members are found from the root backwards: each time,
  of those who wish the cell, the one with the longest queue behind it.
- **The tie-break.** Of equally long queues, networkx takes the one that comes first among the predecessors of the cell
  in ``G.subgraph(component).copy()``, whose edges are inserted in the order of its nodes. That is
  (a) the order in which cells were put into the whole graph, wherever twice the component's cells are no fewer than
  all of the graph's: by agents' numbers, first the cell an agent stands in, then the one it wishes; or else
  (b) the order in which CPython walks through a set of the component's cells as tuples (x, y). That set was filled in
  the order of a breadth-first search from the component's first cell (a), in each cell first the wished one, then
  those who wish it by agents' numbers; and copied once, element by element. So the order depends on hashes of tuples
  and on how a set's table is probed (ten slots in a row, then a jump) and grown (fourfold): both are repeated here,
  for ties alone. The tests hold them equal to the CPython that runs them, and to the networkx that they pin.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from envs.rware.compiled import kernel
from envs.rware.floor import FORWARD, Array, Floor, Plan

LINEAR_PROBES = 9  # slots after the first that a set's probe looks at, before it jumps


class Queues(NamedTuple):
    """Of the agents of one row."""

    wish: Array  # (N,) int64    cell
    front: Array  # (N,) int64   agent that stands there: oneself, or -1 where nobody does
    depth: Array  # (N,) int64   longest queue behind
    first: Array  # (N,) int64   head of one's own queue, in front of an empty cell; -1: it is not in front of one
    rank: Array  # (N + 1,) int64   of the agents' cells, among equals; filled for ties


@kernel
def move(floor: Floor, plan: Plan, action: Array) -> None:
    """Let all agents move that may, with what they carry. ``action`` (B, N) int64."""
    n_rows, n = floor.cell.shape
    wish, front, goes = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.bool_)
    queues = Queues(wish, front, np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n + 1, np.int64))
    for b in range(n_rows):
        if _wishes(b, floor, plan, action[b], queues):
            _line_up(queues, goes)
            for i in range(n):
                if front[i] == -1 and _leads(i, wish):
                    _let_go(floor.cell[b], plan.hashes, queues, wish[i], goes)
            _carry_out(b, floor, wish, goes)


@kernel
def _wishes(b: int, floor: Floor, plan: Plan, action: Array, queues: Queues) -> bool:
    """Where agents want to be, and who is there; whether anybody wants to move."""
    wish, front = queues.wish, queues.front
    is_inside, someone = plan.is_inside[plan.layout[floor.task[b]]], False
    for i in range(len(wish)):
        here = np.int64(floor.cell[b, i])
        there = here
        if action[i] == FORWARD:
            ahead = here + plan.ahead[floor.direction[b, i]]
            if is_inside[ahead]:
                there = ahead
            other = np.int64(floor.agent_at[b, there])
            stands = floor.shelf_at[b, there] and not (other and floor.carried[b, other - 1])
            if floor.carried[b, i] and there != here and stands:
                there = here
        wish[i] = there
        front[i] = floor.agent_at[b, there] - 1
        someone |= there != here
    return someone


@kernel
def _line_up(queues: Queues, goes: Array) -> None:
    """Walk each queue to its head. Cycles are settled here; in trees, ``depth`` and ``first`` are found."""
    front, depth, first, n = queues.front, queues.depth, queues.first, len(queues.front)
    for i in range(n):
        depth[i] = 0
    for i in range(n):
        j, steps = i, 0
        while front[j] >= 0 and front[j] != j and front[j] != i and steps < n:
            j = front[j]
            steps += 1
            depth[j] = max(depth[j], steps)
        first[i] = j if front[j] == -1 else -1
        goes[i] = front[j] == i and steps > 1


@kernel
def _leads(i: int, wish: Array) -> bool:
    """Whether agent i is the first by number that wishes its cell, an empty one: each is taken care of once."""
    for j in range(i):  # noqa: SIM110, because the compiler knows no all()
        if wish[j] == wish[i]:
            return False
    return True


@kernel
def _let_go(cell: Array, hashes: Array, queues: Queues, root: int, goes: Array) -> None:
    """Let the longest queue behind the cell ``root``, which is empty, go."""
    wish, depth, rank = queues.wish, queues.depth, queues.rank
    is_ranked, to, n = False, root, len(wish)
    while True:
        best, is_tied = -1, False
        for i in range(n):
            if wish[i] != to or cell[i] == to:
                continue
            if best == -1 or depth[i] > depth[best]:
                best, is_tied = i, False
            elif depth[i] == depth[best]:
                is_tied = True
        if best == -1:
            return
        if is_tied:
            if not is_ranked:
                _rank(cell, hashes, queues, root)
                is_ranked = True
            for i in range(n):
                if wish[i] == to and cell[i] != to and depth[i] == depth[best] and rank[i] < rank[best]:
                    best = i
        goes[best] = True
        to = cell[best]


@kernel
def _rank(cell: Array, hashes: Array, queues: Queues, root: int) -> None:
    """Fill ``queues.rank`` with the order of the component's cells in networkx' copy of it. See above."""
    wish, front, rank, n = queues.wish, queues.front, queues.rank, len(queues.wish)
    n_cells = n
    for i in range(n):
        rank[i] = 2 * i
        for j in range(i):
            if wish[j] == cell[i]:
                rank[i] = min(rank[i], 2 * j + 1)
        n_cells += front[i] == -1 and _leads(i, wish)
    found = np.empty(n + 1, np.int64)  # agents, or n for the root, in the order of a breadth-first search
    n_found = _search(cell, queues, root, found)
    if 2 * n_found < n_cells:
        keys = np.empty(n + 1, np.uint64)
        for i in range(n):
            keys[i] = hashes[cell[i]]
        keys[n] = hashes[root]
        _as_in_a_set(found[:n_found], keys)
        _as_in_a_set(found[:n_found], keys)
        for place in range(n_found):
            rank[found[place]] = place


@kernel
def _search(cell: Array, queues: Queues, root: int, found: Array) -> int:
    """Fill ``found`` with the component's cells, and say how many they are."""
    wish, front, first, rank, n = queues.wish, queues.front, queues.first, queues.rank, len(queues.wish)
    is_found, source = np.zeros(n + 1, np.bool_), -1
    for i in range(n):
        if first[i] >= 0 and wish[first[i]] == root and (source == -1 or rank[i] < rank[source]):
            source = i
    found[0], n_found, is_found[source], done = source, 1, True, 0
    while done < n_found:
        here = found[done]
        done += 1
        if here < n:
            ahead = front[here] if front[here] >= 0 else n
            if not is_found[ahead]:
                found[n_found], is_found[ahead] = ahead, True
                n_found += 1
        place = cell[here] if here < n else root
        for i in range(n):
            if wish[i] == place and not is_found[i]:
                found[n_found], is_found[i] = i, True
                n_found += 1
    return n_found


@kernel
def _as_in_a_set(nodes: Array, keys: Array) -> None:
    """Reorder nodes as CPython's set has them that is filled in their order; ``keys`` are hashes by node."""
    size, n_slots = 8, 8 * (len(nodes) + 1)
    table, spare = np.full(n_slots, -1, np.int64), np.empty(n_slots, np.int64)
    for place in range(len(nodes)):
        _insert(table, size, nodes[place], keys)
        filled = place + 1
        if 5 * filled >= 3 * (size - 1):
            old = size
            for slot in range(old):
                spare[slot], table[slot] = table[slot], -1
            while size <= 4 * filled:
                size *= 2
            for slot in range(old):
                if spare[slot] >= 0:
                    _insert(table, size, spare[slot], keys)
    filled = 0
    for slot in range(size):
        if table[slot] >= 0:
            nodes[filled] = table[slot]
            filled += 1


@kernel
def _insert(table: Array, size: int, node: int, keys: Array) -> None:
    mask, perturb = np.uint64(size - 1), keys[node]
    slot = perturb & mask
    while True:
        last = slot + np.uint64(LINEAR_PROBES) if slot + np.uint64(LINEAR_PROBES) <= mask else slot
        for probe in range(np.int64(slot), np.int64(last) + 1):
            if table[probe] == -1:
                table[probe] = node
                return
        perturb >>= np.uint64(5)
        slot = (slot * np.uint64(5) + np.uint64(1) + perturb) & mask


@kernel
def _carry_out(b: int, floor: Floor, wish: Array, goes: Array) -> None:
    """Take those who go off the floor, then put them and their shelves where they go."""
    for i in range(len(wish)):
        if goes[i]:
            floor.agent_at[b, floor.cell[b, i]] = 0
            if floor.carried[b, i]:
                floor.shelf_at[b, floor.cell[b, i]] = 0
    for i in range(len(wish)):
        if goes[i]:
            floor.cell[b, i] = wish[i]
            floor.agent_at[b, wish[i]] = i + 1
            if floor.carried[b, i]:
                floor.shelf_at[b, wish[i]] = floor.carried[b, i]
                floor.shelf_cell[b, floor.carried[b, i]] = wish[i]
