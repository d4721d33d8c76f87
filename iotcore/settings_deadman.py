"""Settings of the dead man's switch."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Deadman(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signs of life to an outside monitor, which raises the alarm when they stop (docs/operations.md)."""

    url: Annotated[str, Meta(pattern=r"^(https?://[^\s/?#]+(/\S*)?)?$")] = ""  # holds the monitor's secret as a rule
    interval_s: Annotated[float, Meta(ge=1, le=3_600)] = 60.0
    allow_http: bool = False
    allow_private: bool = False

    def __repr__(self) -> str:
        """Without its address, which is a secret."""
        return f"Deadman(interval_s={self.interval_s!r}, …)"
