"""Randomness is passed: one seed, one named child stream per purpose, no global generator."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def seed_sequence(seed: int, *path: str | int) -> np.random.SeedSequence:
    """The stream of ``path`` (names or numbers) under ``seed``: independent of every other path's stream."""
    key = tuple(zlib.crc32(part.encode()) if isinstance(part, str) else part for part in path)
    return np.random.SeedSequence(entropy=seed, spawn_key=key)


def numpy_generator(seed: int, *path: str | int) -> np.random.Generator:
    """A numpy generator on the stream of ``path``."""
    return np.random.default_rng(seed_sequence(seed, *path))


def torch_generator(seed: int, *path: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on ``device``, on the stream of ``path``."""
    state = seed_sequence(seed, *path).generate_state(1, np.uint64)
    return torch.Generator(device=device).manual_seed(int(state[0]))
