"""What can be wrong with a simulated Modbus unit or with its whole line, by plain names, and timelines of it.

`device.fault = parse("exception:2")` makes one unit wrong, `server.fault = …` every unit behind a port; None ends it.
`docs/simulators.md` lists the names.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from iotcore.strict import convert
from simulators import modbus_content as content
from simulators import modbus_wrong as wrong
from simulators.modbus_wrong import Fault

FAULTS: dict[str, type[Fault]] = {
    "exception": wrong.ExceptionAnswer,
    "wrong_transaction": wrong.WrongTransaction,
    "wrong_unit": wrong.WrongUnit,
    "wrong_function": wrong.WrongFunction,
    "short_frame": wrong.ShortFrame,
    "few_registers": wrong.FewRegisters,
    "many_registers": wrong.ManyRegisters,
    "over_long": wrong.OverLong,
    "length_too_large": wrong.LengthTooLarge,
    "length_too_small": wrong.LengthTooSmall,
    "two_frames": wrong.TwoFrames,
    "slow": wrong.Slow,
    "late": wrong.Late,
    "held": wrong.Held,
    "silent": wrong.Silent,
    "close": wrong.Close,
    "reset": wrong.Reset,
    "duplicate_unit": wrong.DuplicateUnit,
    "bad_crc": wrong.BadCrc,
    "noise": wrong.Noise,
    "swapped_words": content.SwappedWords,
    "nan": content.NotANumber,
    "infinite": content.Infinite,
    "stuck": content.Stuck,
    "ones": content.Ones,
    "counter_wrap": content.CounterWrap,
}


class Faulty(Protocol):
    """A unit, a server or a line."""

    fault: Fault | None


def parse(name: str, args: Mapping[str, Any] | None = None) -> Fault:
    """The fault of a name; "exception:2" is short for its first argument.

    Raises:
        ValueError: there is no such fault; the known ones are listed.
        ConfigError: arguments that it does not have, or values that it does not take.
    """
    plain, colon, first = name.partition(":")
    kind = FAULTS.get(plain)
    if kind is None:
        raise ValueError(f"no Modbus fault {plain!r}; known are: {', '.join(FAULTS)}")
    given = dict(args or {})
    if colon:
        if not kind.__struct_fields__:
            raise ValueError(f"Modbus fault {plain!r} takes no argument, so write it without {colon + first!r}")
        given[kind.__struct_fields__[0]] = _scalar(first)
    return convert(given, kind, name)


async def play(target: Faulty, timeline: Sequence[tuple[float, Fault | None]]) -> None:
    """Set the faults of a timeline at their times, in seconds from now; the last one stays.

    Raises:
        ValueError: the times do not rise.
    """
    if any(later[0] < earlier[0] for earlier, later in itertools.pairwise(timeline)):
        raise ValueError("the times of a timeline must rise")
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for at_s, fault in timeline:
        await asyncio.sleep(max(0.0, began_s + at_s - loop.time()))
        target.fault = fault


def _scalar(text: str) -> int | float | str:
    for make in (lambda: int(text, 0), lambda: float(text)):
        try:
            return make()
        except ValueError:
            continue
    return text
