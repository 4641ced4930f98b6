"""Losses and estimators as pure functions."""

from __future__ import annotations
