"""Task encoders, by name."""

from __future__ import annotations

from typing import Any

from mg2l_kalei.encoders.base import TaskEncoder
from mg2l_kalei.encoders.mg2l import Mg2lConfig, Mg2lEncoder
from mg2l_kalei.encoders.references import NoEncoder, NoEncoderConfig, OracleConfig, OracleEncoder

ENCODERS: dict[str, tuple[type[TaskEncoder], Any]] = {
    "none": (NoEncoder, NoEncoderConfig()),
    "oracle": (OracleEncoder, OracleConfig()),
    "mg2l": (Mg2lEncoder, Mg2lConfig()),
}
