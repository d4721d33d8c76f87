"""What a crew wants to know besides where it burns: whom to call, who has the keys, water, signals on the way, air around.

Frozen, part of a `Notice`. Whatever is not known is simply not there.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Person(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whom a crew calls; `keys`: who can open the building."""

    name: str
    phone: str = ""
    role: str = ""
    keys: bool = False


class Near(msgspec.Struct, frozen=True):
    """A device near the fire; metres as the crow flies."""

    device: str
    title: str
    metres: int


class Measured(msgspec.Struct, frozen=True):
    """A value that was measured near the fire, with its own time, ms UTC."""

    device: str
    point: str
    value: float
    unit: str
    at_ms: float


class Number(msgspec.Struct, frozen=True):
    """A telephone of the building's response plan, in the order in which they are called."""

    name: str
    number: str  # E.164: + and 8 to 15 digits
    by: Literal["sms", "voice"]
    language: Literal["vi", "en"] = "vi"
