"""Physics of the Multi-agent Particle Environment, for B rows at once.

Bodies are discs with unit mass in the plane. A step adds forces, damps and integrates velocity, limits the speed, and
then moves: v <- v (1 - damping) + F dt;  x <- x + v dt. After Lowe et al. 2017 (arXiv 1706.02275) and the code of it.
mpe2, which continues that code, has no walls and moves by the velocity from before the step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

TIME_STEP = 0.1  # s
DAMPING = 0.25  # share of the velocity lost in a step
CONTACT_FORCE = 100.0  # N per metre of penetration
CONTACT_MARGIN = 1e-3  # m; the force sets in smoothly over about this distance
WALL_POSITION = 1.2  # m; walls stand at plus and minus this on both axes
WALL_HALF_WIDTH = 0.2  # m; a wall pushes what is nearer to its line than this plus the body's size
EXACT_SOFTPLUS = 50.0  # beyond this argument softplus(x) = x in double precision too


class Body(NamedTuple):
    """A disc."""

    size: float  # m, radius
    accel: float = 5.0  # N, the force of a control of 1
    max_speed: float = math.inf  # m/s
    collides: bool = True  # with other bodies; walls stop every body


class Motion(NamedTuple):
    pos: Tensor  # (B, E, 2)   m
    vel: Tensor  # (B, E, 2)   m/s


def resting_place(motion: Motion) -> Tensor:
    """Where bodies of mpe2 come to rest if nothing moves or stops them any more, (B, E, 2)."""
    return motion.pos + motion.vel * (TIME_STEP / DAMPING)


def coasting_distance(body: Body) -> float:
    """How far a control of 1 for one step carries a body until it rests [m]."""
    return body.accel * TIME_STEP * TIME_STEP / DAMPING


class World:
    """Steps E bodies in B rows; holds no state of its own.

    ``fixed``: F further bodies, which push others and never move.
    ``has_walls``: whether walls stand around the field; mpe2 and blind spread have none.
    ``moves_first``: whether bodies move by the velocity from before the step, as in mpe2.
    """

    def __init__(
        self,
        bodies: Sequence[Body],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        *,
        fixed: Sequence[Body] = (),
        has_walls: bool = True,
        moves_first: bool = False,
    ) -> None:
        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, device=device, dtype=dtype)[:, None]  # (E, 1)

        self.device = device
        self.dtype = dtype
        self._has_walls = has_walls
        self._moves_first = moves_first
        sizes = column([body.size for body in (*bodies, *fixed)])  # (E + F, 1)
        size = sizes[: len(bodies)]
        self._kept = torch.tensor(1 - DAMPING, device=device, dtype=dtype)  # as a tensor, for speed
        self._impulse = TIME_STEP * column([body.accel for body in bodies])
        self._free_until = WALL_POSITION - WALL_HALF_WIDTH - size
        self._max_speed = column([body.max_speed for body in bodies])
        self._has_speed_limit = any(body.max_speed < math.inf for body in bodies)
        collides = torch.tensor([body.collides for body in (*bodies, *fixed)], device=device)
        self._has_contacts = any(body.collides for body in bodies) and int(collides.sum()) > 1
        meets = collides[: len(bodies), None] & collides
        self._contact_distance = torch.where(meets, size + sizes.T, -math.inf)  # (E, E + F)

    def advance(self, motion: Motion, control: Tensor, fixed: Tensor | None = None) -> Motion:
        """One step under control (B, E, 2), in units of each body's ``accel``; fixed (B, F, 2): where those stand."""
        pos, before = motion
        vel = torch.addcmul(before * self._kept, control, self._impulse)
        if self._has_walls:
            vel = vel.add(self._wall_force(pos), alpha=TIME_STEP)
        if self._has_contacts:
            vel = vel.add(self._contact_force(pos, fixed), alpha=TIME_STEP)
        if self._has_speed_limit:
            speed = torch.linalg.vector_norm(vel, dim=-1, keepdim=True)
            vel = vel * (self._max_speed / speed).clamp_max(1)  # at rest: limit / 0 = inf, clamped to 1
        return Motion(pos.add(before if self._moves_first else vel, alpha=TIME_STEP), vel)

    def _wall_force(self, pos: Tensor) -> Tensor:
        """The nearer wall of each axis pushes back inside; also what a knock has carried past its line."""
        return torch.copysign(_repulsion(pos.abs() - self._free_until), -pos)

    def _contact_force(self, pos: Tensor, fixed: Tensor | None) -> Tensor:
        everything = pos if fixed is None else torch.cat((pos, fixed), dim=1)
        apart = pos[:, :, None] - everything[:, None]  # (B, E, E + F, 2)   from the second body to the first
        distance = torch.linalg.vector_norm(apart, dim=-1)
        push = _repulsion(self._contact_distance - distance)
        # A body at no distance (itself, or one in the very same place) pushes in no direction.
        return (apart * (push / distance.clamp_min(1e-12)).unsqueeze(-1)).sum(dim=2)


def _repulsion(depth: Tensor) -> Tensor:
    """Size of the force at a penetration depth: linear inside, smooth over the margin, nothing outside."""
    return CONTACT_FORCE * softplus(depth, beta=1 / CONTACT_MARGIN, threshold=EXACT_SOFTPLUS)
