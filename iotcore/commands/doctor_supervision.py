"""`iotcore doctor`: fire devices that are silent, and those whose silence would be noticed late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAME = "supervision"
REMEDY = "Look at their power and network (iotcore device show DEVICE); a gateway that is silent takes its children with it."


def of(beats: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """What the fire processes say: of several the one that misses most, for one that is deaf itself calls nobody silent."""
    fire = [beat for name, beat in beats.items() if name.partition("-")[0] == "fire" and "silent" in beat]
    return max(fire, key=lambda beat: int(beat["silent"]), default=None)


def told(beat: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether all fire devices are heard, and what to say of them, by what the fire process says of itself."""
    silent, weak = int(beat["silent"]), int(beat["weak"])
    said = f"{silent} silent{_named(beat['silent_first'], silent)}" if silent else "every active fire device is heard"
    if weak:
        said += f"; {weak} weakly supervised (noticed after more than 300 s){_named(beat['weak_first'], weak)}"
    return silent == 0, said


def _named(first: list[str], count: int) -> str:
    more = f" and {count - len(first)} more" if count > len(first) else ""
    return f": {', '.join(first)}{more}"
