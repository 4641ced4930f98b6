"""What the maps of ``jaxmarl`` 0.2 are, written down, so that nobody who only asks for sizes imports JAX."""

from __future__ import annotations

from typing import NamedTuple

UNITS = ("marine", "marauder", "stalker", "zealot", "zergling", "hydralisk")  # by the number of their type
OWN_SIZE = 4 + len(UNITS)  # health, place, weapon's cooldown, type as one-hot
UNIT_SIZE = 7 + len(UNITS)  # health, place, last movement, last target, weapon's cooldown, type as one-hot
N_MOVES = 5  # up, right, down, left, stop; then the enemies to shoot at, by number
STOP = 4

_MARINE, _STALKER, _ZEALOT, _HYDRALISK = 0, 2, 3, 5


class Map(NamedTuple):
    """Who fights. Types of units are numbers in ``UNITS``; None: they are drawn for each episode, as places are."""

    n_allies: int
    n_enemies: int
    ally_types: tuple[int, ...] | None
    registered: str  # its name in jaxmarl

    @property
    def obs_dim(self) -> int:
        return UNIT_SIZE * (self.n_allies + self.n_enemies - 1) + OWN_SIZE

    @property
    def state_dim(self) -> int:
        return (OWN_SIZE + 2) * (self.n_allies + self.n_enemies)  # two more: team, type

    @property
    def n_actions(self) -> int:
        return N_MOVES + self.n_enemies


def _fixed(registered: str, ally_types: tuple[int, ...], n_enemies: int) -> Map:
    return Map(len(ally_types), n_enemies, ally_types, registered)


def _drawn(registered: str, n: int) -> Map:
    return Map(n, n, None, registered)


_3S5Z = (_STALKER,) * 3 + (_ZEALOT,) * 5

MAPS = {
    "10m-vs-11m": _fixed("10m_vs_11m", (_MARINE,) * 10, 11),
    "25m": _fixed("25m", (_MARINE,) * 25, 25),
    "27m-vs-30m": _fixed("27m_vs_30m", (_MARINE,) * 27, 30),
    "2s3z": _fixed("2s3z", (_STALKER,) * 2 + (_ZEALOT,) * 3, 5),
    "3m": _fixed("3m", (_MARINE,) * 3, 3),
    "3s-vs-5z": _fixed("3s_vs_5z", (_STALKER,) * 3, 5),
    "3s5z": _fixed("3s5z", _3S5Z, 8),
    "3s5z-vs-3s6z": _fixed("3s5z_vs_3s6z", _3S5Z, 9),
    "5m-vs-6m": _fixed("5m_vs_6m", (_MARINE,) * 5, 6),
    "6h-vs-8z": _fixed("6h_vs_8z", (_HYDRALISK,) * 6, 8),
    "8m": _fixed("8m", (_MARINE,) * 8, 8),
    "smacv2-10-units": _drawn("smacv2_10_units", 10),
    "smacv2-20-units": _drawn("smacv2_20_units", 20),
    "smacv2-5-units": _drawn("smacv2_5_units", 5),
}
