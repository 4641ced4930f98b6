"""Storage of what was lived through."""

from __future__ import annotations
