"""What is done with trained runs and task families, a module per command."""

from __future__ import annotations
