"""Training of a system, from its parts to its runs."""

from __future__ import annotations
