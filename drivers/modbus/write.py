"""Writing to a unit: only what an allow-list names, once for each request id, seen to be taken by reading it back, all audited.

attempt ─► decide (pure, a named reason) ─► record "pending", on disk ─► audit ─► write ─► read back ─► record, audit
              │                                                                     │
              └─ refused: audited, nothing sent                                     └─ differs or no answer: failed, by name

A request id that is known is answered from the record and never written again. One that is still pending was cut short: it is
read back, not repeated. Who asks is a name that somebody gave; the audit keeps it, nothing here proves it.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from drivers.modbus.allow import Target, Unit
from drivers.modbus.questions import ReadWriteRequest, Reply, WriteRequest
from iotcore.clock import Clock
from iotcore.reading import Scalar
from iotcore.registry.audit import canonical
from iotcore.specs import decode, firmware, meaning, plan, raw
from iotcore.specs.plan import Request

LOOK_AGAIN_S = 0.2  # between two looks at a value that has not changed yet
CLOSE = 1e-6  # relative, of numbers that a binary32 or a scale has rounded
WHOLE_WORD = 0xFFFF
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z")
WHOLE = re.compile(r"[-+]?[0-9]{1,20}\Z")
LONGEST_WHO = 64  # characters
TRUE, FALSE = frozenset({"true", "on", "1"}), frozenset({"false", "off", "0"})

Note = Callable[[str, str, str, str], Awaitable[None]]  # by, action, subject, detail


class Reason(str, Enum):
    """Why an attempt is accepted, refused or failed; operators and tests rely on the names."""

    ACCEPTED = "accepted"
    NOT_LISTED = "not_listed"
    NOT_A_VALUE = "not_a_value"
    OUT_OF_RANGE = "out_of_range"
    FORBIDDEN = "forbidden"
    NOBODY = "nobody"
    SECOND_PERSON = "second_person_needed"
    SAME_PERSON = "same_person_twice"
    TOO_SOON = "too_soon"
    BAD_ID = "bad_id"
    ID_TAKEN = "id_taken"
    VERIFIED = "verified"
    DIFFERS = "reads_back_different"
    NOT_WRITTEN = "not_written"
    NOT_READ_BACK = "not_read_back"
    UNKNOWN_FIRMWARE = "unknown_firmware"


@dataclass(frozen=True, slots=True)
class Attempt:
    """Somebody wants `target` of a unit to be `value`. `id` names the wish: the same id is the same wish."""

    id: str
    target: str
    value: str
    by: str
    second: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is said of an attempt before anything is sent; `number` is what would be written, raw."""

    reason: Reason
    detail: str = ""
    number: float = 0.0

    @property
    def accepted(self) -> bool:
        """Whether it may be written."""
        return self.reason is Reason.ACCEPTED


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: "verified", "failed" or "refused". `repeated`: told from the record, nothing was sent."""

    state: str
    reason: str
    detail: str = ""
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """What the record has of an id."""

    device: str
    target: str
    value: str
    state: str  # pending, verified or failed
    reason: str
    detail: str


class Line(Protocol):
    """What is needed of a connection."""

    async def read(self, device_id: int, request: Request, timeout_s: float) -> Reply: ...

    async def write(self, device_id: int, request: WriteRequest | ReadWriteRequest, timeout_s: float) -> Reply: ...


class Record(Protocol):
    """Where attempts are kept, durably; see `record.WriteRecord`. `begin` claims an id, and says None when it could."""

    def known(self, id_: str) -> Kept | None: ...

    def last_ms(self, device: str, target: str) -> float | None: ...

    def begin(self, attempt: Attempt, device: str, at_ms: float) -> Kept | None: ...

    def end(self, id_: str, outcome: Outcome) -> None: ...


def decide(target: Target | None, attempt: Attempt, last_ms: float | None, now_ms: float) -> Decision:
    """May it be written? `last_ms` is when this target was last tried, on the same wall clock as `now_ms`."""
    if not ID.match(attempt.id):
        return Decision(Reason.BAD_ID, "an id is 1 to 64 letters, digits and . _ : -")
    if target is None:
        return Decision(Reason.NOT_LISTED, f"{attempt.target} is not in the allow-list")
    decision = _people(target, attempt) or _value(target, attempt.value)
    since_s = math.inf if last_ms is None else abs(now_ms - last_ms) / 1000.0  # a clock that was set back is no excuse
    if decision.accepted and since_s < target.every_s:
        return Decision(Reason.TOO_SOON, f"was written {since_s:.1f} s ago; once in {target.every_s:g} s is allowed")
    return decision


class Writer:
    """Writes to units of an allow-list; a unit without targets refuses everything.

    `note` keeps the audit; when it raises before the write, nothing is written.
    """

    def __init__(self, record: Record, note: Note, clock: Clock) -> None:
        self._record = record
        self._note = note
        self._clock = clock

    async def write(self, unit: Unit, connection: Line, attempt: Attempt) -> Outcome:
        """One attempt on one unit. Raises StoreError when it cannot be kept or audited."""
        kept = self._record.known(attempt.id)
        if kept is None:
            now_ms = self._clock.wall_ms()
            target = unit.targets.get(attempt.target)
            decision = decide(target, attempt, self._record.last_ms(unit.device, attempt.target), now_ms)
            if target is None or not decision.accepted:
                return await self._refused(unit.device, attempt, decision)
            kept = self._record.begin(attempt, unit.device, now_ms)
            if kept is None:
                await self._note(*_entry(unit.device, attempt, "modbus.write", Outcome("accepted", Reason.ACCEPTED.value)))
                return await self._ended(unit.device, attempt, await self._carry_out(unit, target, connection, decision.number))
        return await self._known(kept, unit, connection, attempt)

    async def _known(self, kept: Kept, unit: Unit, connection: Line, attempt: Attempt) -> Outcome:
        """An id that was used before, here or by another process."""
        if (kept.device, kept.target, kept.value) != (unit.device, attempt.target, attempt.value):
            what = f"{attempt.id} was used for {kept.target} = {kept.value} of {kept.device}"
            return await self._refused(unit.device, attempt, Decision(Reason.ID_TAKEN, what))
        if kept.state != "pending":
            return Outcome(kept.state, kept.reason, kept.detail, repeated=True)
        target = unit.targets.get(attempt.target)
        if target is None:
            return await self._refused(unit.device, attempt, decide(None, attempt, None, 0.0))
        outcome = await self._look(unit, target, connection, _number(target, kept.value), "")
        if outcome.reason == Reason.DIFFERS.value:
            outcome = Outcome("failed", Reason.NOT_WRITTEN.value, f"the first try was cut short; {outcome.detail}")
        return await self._ended(unit.device, attempt, outcome)

    async def _refused(self, device: str, attempt: Attempt, decision: Decision) -> Outcome:
        outcome = Outcome("refused", decision.reason.value, decision.detail)
        await self._note(*_entry(device, attempt, "modbus.write", outcome))
        return outcome

    async def _ended(self, device: str, attempt: Attempt, outcome: Outcome) -> Outcome:
        self._record.end(attempt.id, outcome)
        await self._note(*_entry(device, attempt, "modbus.write.end", outcome))
        return outcome

    async def _carry_out(self, unit: Unit, target: Target, connection: Line, number: float) -> Outcome:
        """Write, then look. What was not answered may have been taken all the same: looking tells."""
        if why := await _strange(unit, connection):
            return Outcome("failed", Reason.UNKNOWN_FIRMWARE.value, f"{why}; nothing was written")
        request = _request(target, number)
        reply = await connection.write(unit.address.device_id, request, unit.timeout_s)
        if reply.why.startswith("exception:"):
            return Outcome("failed", reply.why, "the unit refuses to be written so")
        if isinstance(request, ReadWriteRequest) and not reply.why and target.shown_by is None:
            said = raw.number(target.wire.type, reply.words, target.order)
            return _compared(said, number, "")
        return await self._look(unit, target, connection, number, reply.why)

    async def _look(self, unit: Unit, target: Target, connection: Line, number: float, why: str) -> Outcome:
        """Read the value until it is there or `settles_s` are over; `why` is what went wrong with the write, if anything."""
        until_s = self._clock.monotonic_s() + target.settles_s
        while True:
            outcome = await self._once(unit, target, connection, number, why)
            if outcome.state == "verified" or self._clock.monotonic_s() >= until_s:
                return outcome
            await asyncio.sleep(LOOK_AGAIN_S)

    async def _once(self, unit: Unit, target: Target, connection: Line, number: float, why: str) -> Outcome:
        shown = target.shown_by
        wire = target.wire if shown is None or shown[1].modbus is None else shown[1].modbus
        request = Request(wire.table, wire.address, raw.width(wire), ())
        reply = await connection.read(unit.address.device_id, request, unit.timeout_s)
        if reply.why:
            return Outcome("failed", Reason.NOT_READ_BACK.value, f"write: {why or 'taken'}; reading back: {reply.why}")
        if shown is None:
            return _compared(_own(target, reply.words), number, why)
        name, point = shown
        order = unit.spec.modbus.byte_order if unit.spec.modbus else "ABCD"
        said = decode.value(name, point, reply.words, order).value
        word = target.states.get(meaning.word(number))
        wanted = word if point.kind in ("enum", "text") and word is not None else meaning.value(name, point, number).value
        return _compared(said, wanted, why)


def _entry(device: str, attempt: Attempt, action: str, outcome: Outcome) -> tuple[str, str, str, str]:
    """An audit entry: by, action, subject, detail."""
    detail: Mapping[str, str] = {
        "id": attempt.id,
        "target": attempt.target,
        "value": attempt.value,
        "second": attempt.second,
        "state": outcome.state,
        "reason": outcome.reason,
        "detail": outcome.detail,
    }
    return attempt.by[:LONGEST_WHO] or "nobody", action, device, canonical(detail)


async def _strange(unit: Unit, connection: Line) -> str:
    """Why the spec may not be this unit's map; "" when it is: another firmware may have another register there."""
    said = unit.address.firmware
    request = plan.version_request(unit.spec)
    if not said and request is not None:
        reply = await connection.read(unit.address.device_id, request, unit.timeout_s)
        words = {(request.table, request.address + i): word for i, word in enumerate(reply.words)}
        found = firmware.version(unit.spec, words)
        if found is None:
            return f"the unit does not tell its firmware version ({reply.why or 'unreadable'})"
        said = found
    return (
        ""
        if firmware.layout(unit.spec, said) is not None
        else f"its spec does not know firmware {said or 'of an untold version'}"
    )


def _people(target: Target, attempt: Attempt) -> Decision | None:
    by, second = attempt.by.strip().casefold(), attempt.second.strip().casefold()
    if target.safety == "forbidden":
        return Decision(Reason.FORBIDDEN, f"{target.name} is never written")
    if not by:
        return Decision(Reason.NOBODY, "say who asks for it")
    if target.safety == "two_person" and not second:
        return Decision(Reason.SECOND_PERSON, f"{target.name} takes two people: name the second")
    if target.safety == "two_person" and by == second:
        return Decision(Reason.SAME_PERSON, "the second person must be another one")
    return None


def _value(target: Target, text: str) -> Decision:
    """The number to write, when the text says one that the target takes."""
    try:
        number = _number(target, text)
        _request(target, number)
    except ValueError as error:
        return Decision(Reason.NOT_A_VALUE, str(error))
    if target.range is not None and not target.range[0] <= number <= target.range[1]:
        return Decision(Reason.OUT_OF_RANGE, f"{text} is not in {target.range[0]:g} to {target.range[1]:g}")
    return Decision(Reason.ACCEPTED, number=number)


def _number(target: Target, text: str) -> float:
    """The raw number that `text` says: a word of the states, on or off, or the number itself.

    Raises:
        ValueError: it says none.
    """
    text = text.strip()
    if target.states:
        for number, word in target.states.items():
            if text in (word, number):
                return int(number, 0)
        raise ValueError(f"{text!r} is none of: {', '.join(target.states.values())}")
    if target.one_bit:
        if text.lower() not in TRUE | FALSE:
            raise ValueError(f"{text!r} is neither on nor off")
        return float(text.lower() in TRUE)
    if target.wire.type not in raw.FLOATS:
        if not WHOLE.match(text):
            raise ValueError(f"{text!r} is no whole number, and {target.wire.type} takes nothing else")
        return int(text)
    try:
        number_ = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None
    if not math.isfinite(number_):
        raise ValueError(f"{text!r} is no number that can be written")
    return number_


def _request(target: Target, number: float) -> WriteRequest | ReadWriteRequest:
    """What is sent: code 5, 6, 15 or 16 for whole ones, 22 for a part of a register, 23 to write and read in one.

    Raises:
        ValueError: the number does not fit.
    """
    wire = target.wire
    if wire.table == "coil":
        return WriteRequest("coil", wire.address, (int(number),), multiple=target.multiple)
    if target.one_bit or wire.mask is not None:
        part = wire.mask or 1 << (wire.bit or 0)
        content = int(number) << raw.shift(part)
        if content & ~part:
            raise ValueError(f"{number:g} does not fit the bits {part:#06x}")
        (mask,), (added,) = raw.words("uint16", part, target.order), raw.words("uint16", content, target.order)
        return WriteRequest("holding", wire.address, mask=(WHOLE_WORD & ~mask, added))
    words = tuple(raw.words(wire.type, number if wire.type in raw.FLOATS else int(number), target.order))
    if target.read_write:
        return ReadWriteRequest(wire.address, len(words), wire.address, words)
    return WriteRequest("holding", wire.address, words, multiple=target.multiple)


def _own(target: Target, words: Sequence[int]) -> float:
    """The raw number in the target's own registers."""
    wire = target.wire
    if wire.table == "coil":
        return float(words[0])
    number = raw.number("uint16" if target.one_bit else wire.type, words, target.order)
    if target.one_bit or wire.mask is not None:
        return float(raw.masked(int(number), wire.mask or 1 << (wire.bit or 0)))
    return number


def _compared(said: Scalar | None, wanted: Scalar | None, why: str) -> Outcome:
    """What was read against what it should be."""
    numbers = isinstance(said, (int, float)) and isinstance(wanted, (int, float))
    same = math.isclose(float(said or 0), float(wanted or 0), rel_tol=CLOSE, abs_tol=CLOSE) if numbers else said == wanted
    after = f"; the write itself: {why}" if why else ""
    if same:
        return Outcome("verified", Reason.VERIFIED.value, f"reads back {said!r}{after}")
    return Outcome("failed", Reason.DIFFERS.value, f"reads back {said!r}, not {wanted!r}{after}")
