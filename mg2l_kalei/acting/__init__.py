"""Acting in environments."""

from __future__ import annotations
