"""What a run leaves on the disk: atomic, checked, and free of code."""

from __future__ import annotations
