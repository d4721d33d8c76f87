"""`iotcore quarantine list|show|retry|drop`: what the lanes refused, read from their files, and what is to become of it.

Only the lane that owns a file writes it: retry and drop are intents, which the lane carries out and answers in its file.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import msgspec
from msgspec import structs

from drivers.mqtt.decode import Decoder
from iotcore.app import common
from iotcore.clock import SystemClock
from iotcore.commands import office, who
from iotcore.errors import StartError
from iotcore.journal import quarantine, retry
from iotcore.journal.database import UNREADABLE, Connection, connect_readonly, is_there
from iotcore.journal.quarantine import Row, Wanted
from iotcore.settings import Settings

POLL_S = 0.2
ANSWER_LIMIT_S = 30.0  # a lane follows intents every 0.2 s; a thousand rows take it a few seconds
SHOWN_BYTES = 1_024  # of a payload, unless all is asked for
AROUND = 40  # bytes shown on both sides of the place where a payload went wrong
UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
PLACE = re.compile(r"\((?:byte|char) (\d+)\)")
MANY = 1_000_000


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which rows a person means: numbers by lane, or a filter; `everything` says that an empty filter is meant."""

    ids: tuple[tuple[str, int], ...] = ()
    lane: str = ""
    device: str = ""
    reason: str = ""
    since_ms: float = 0.0
    everything: bool = False

    @property
    def empty(self) -> bool:
        """Whether nobody said which rows."""
        return not (self.ids or self.lane or self.device or self.reason or self.since_ms or self.everything)

    def of(self, lane: str) -> Wanted | None:
        """What of it concerns a lane."""
        ids = tuple(number for name, number in self.ids if name == lane)
        if (self.lane and self.lane != lane) or (self.ids and not ids):
            return None
        return Wanted(lane=lane, ids=ids, device=self.device, reason=self.reason, since_ms=self.since_ms)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one lane made of a request."""

    lane: str
    answer: retry.Answer


def number_of(text: str) -> tuple[str, int]:
    """A row's name, `fire:12`.

    Raises:
        StartError: it is none.
    """
    lane, _, number = text.rpartition(":")
    if not lane or not number.isdecimal():
        raise StartError(
            f"{text!r} is no row of a quarantine", "Rows are named as `iotcore quarantine list` names them: fire:12."
        )
    return lane, int(number)


def since(text: str, now_ms: float) -> float:
    """Ms UTC of a span back from now: 30m, 2h, 7d.

    Raises:
        StartError: it is none.
    """
    if not text[:-1].isdecimal() or text[-1:] not in UNITS_S:
        raise StartError(f"--since {text}: how long back?", "Write 90s, 30m, 2h or 7d.")
    return now_ms - int(text[:-1]) * UNITS_S[text[-1]] * 1000.0


def listed(settings: Settings, chosen: Chosen, limit: int) -> list[dict[str, object]]:
    """The newest rows, newest first; payloads are shown as far as they are text."""
    rows: list[tuple[float, dict[str, object]]] = []
    for lane, connection in _files(settings):
        wanted = chosen.of(lane)
        if wanted is not None:
            rows += [(row.at_ms, _plain(lane, row)) for row in quarantine.found(connection, wanted, limit, newest=True)]
    return [row for _, row in sorted(rows, key=lambda one: one[0], reverse=True)[:limit]]


def shown(settings: Settings, name: tuple[str, int], *, whole: bool) -> list[str]:
    """One row in lines for a person: what was wrong and where, the payload as text and as bytes.

    Raises:
        StartError: there is no such row.
    """
    lane, number = name
    for found_lane, connection in _files(settings):
        if found_lane != lane:
            continue
        for row in quarantine.found(connection, Wanted(ids=(number,)), 1):
            return list(_lines(lane, row, whole=whole))
    raise StartError(f"There is no row {lane}:{number}", "It was tried again, dropped, or is older than what is kept.")


async def preview(settings: Settings, verb: retry.Verb, chosen: Chosen) -> list[dict[str, object]]:
    """What a request would do, a row each; nothing is done."""
    async with office.opened(settings) as registry:
        directory = await registry.directory(common.specs_of(settings))
    decode = Decoder()
    rows: list[dict[str, object]] = []
    for lane, connection in _files(settings):
        wanted = chosen.of(lane)
        for row in quarantine.found(connection, wanted, MANY) if wanted is not None else ():
            answer = retry.Answer()
            done = retry.tried([row], decode, directory, row.at_ms, answer) if verb == "retry" else []
            left = answer.left[0] if answer.left else None
            would = "dropped" if verb == "drop" else f"left: {left.reason}: {left.detail}" if left else "stored"
            again = sum(len(one.refusals) for one in done)
            rows.append(
                {"id": f"{lane}:{row.id}", "reason": row.reason, "device": row.device, "would_be": would, "again": again or ""}
            )
    return rows


async def ask(settings: Settings, verb: retry.Verb, chosen: Chosen, by: str, limit_s: float = ANSWER_LIMIT_S) -> list[Outcome]:
    """Ask every lane that has such rows, and wait for what it says.

    Raises:
        StartError: nobody said which rows, there are none, or a lane does not answer.
    """
    if chosen.empty:
        raise StartError(f"{verb} which rows?", "Name rows, give a filter (--device, --reason, --lane, --since), or say --all.")
    asked: dict[str, int] = {}
    async with office.opened(settings) as registry:
        by = await who.named(settings, registry.database, by)
        for lane, connection in _files(settings):
            wanted = chosen.of(lane)
            last = quarantine.found(connection, wanted, 1, newest=True) if wanted is not None else []
            if wanted is not None and last:
                exact = structs.replace(wanted, up_to=last[0].id, asked_ms=int(SystemClock().wall_ms()))
                asked[lane] = await registry.intent(verb, retry.key_of(exact), by)
    if not asked:
        raise StartError("No such row is in any quarantine", "`iotcore quarantine list` shows what there is.")
    return [Outcome(lane, await _answer(settings, lane, intent, limit_s)) for lane, intent in asked.items()]


async def _answer(settings: Settings, lane: str, intent: int, limit_s: float) -> retry.Answer:
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        for found_lane, connection in _files(settings):
            if found_lane == lane:
                row = connection.execute("SELECT answer FROM quarantine_answer WHERE intent = ?", (intent,)).fetchone()
                if row is not None:
                    return msgspec.json.decode(row[0], type=retry.Answer)
        await asyncio.sleep(POLL_S)
    process = "fire" if lane == "fire" else "telemetry"
    raise StartError(
        f"The {process} process has not answered within {limit_s:.0f} s",
        f"Is it running (`iotcore doctor`)? Request {intent} waits in the registry and is carried out when it is back.",
    )


def told(verb: retry.Verb, outcomes: list[Outcome]) -> list[str]:
    """What became of a request, in lines for a person."""
    lines = []
    for lane, answer in ((one.lane, one.answer) for one in outcomes):
        if verb == "drop":
            lines.append(f"{lane}: {answer.removed} dropped; the counts by reason stay")
            continue
        lines.append(
            f"{lane}: {answer.removed} rows used up, {answer.stored} stored as backlog, {answer.repeats} had come again meanwhile"
        )
        lines += [f"  raised: {alarm}" for alarm in answer.alarms]
        lines += [f"  left: {lane}:{left.id}: {left.reason}: {left.detail}" for left in answer.left]
        if answer.left_count > len(answer.left):
            lines.append(f"  left: and {answer.left_count - len(answer.left)} more")
    return lines


def plain(outcome: Outcome) -> dict[str, object]:
    """The same for programs."""
    return {"lane": outcome.lane, **msgspec.to_builtins(outcome.answer)}


def counted(rows: list[dict[str, object]]) -> str:
    """A preview in one line."""
    what = Counter(str(row["would_be"]).partition(":")[0] for row in rows)
    return ", ".join(f"{count} would be {word}" for word, count in what.items()) or "nothing would be done"


def _files(settings: Settings) -> Iterator[tuple[str, Connection]]:
    """Every lane's file that is there, open to read."""
    for path in (settings.journal_place, *sorted(settings.folder.glob("spool-*.db"))):
        if is_there(path):
            with closing(connect_readonly(path)) as connection:
                if _complete(connection):
                    yield quarantine.lane_of(path), connection


def _complete(connection: Connection) -> bool:
    """Whether the lane has made its tables; one that is just starting has not."""
    try:
        connection.execute("SELECT more FROM quarantine LIMIT 1")
        connection.execute("SELECT intent FROM quarantine_answer LIMIT 1")
    except UNREADABLE:
        return False
    return True


def _plain(lane: str, row: Row) -> dict[str, object]:
    return {
        "id": f"{lane}:{row.id}",
        "lane": lane,
        "at_ms": row.at_ms,
        "reason": row.reason,
        "device": row.device,
        "topic": row.topic,
        "detail": row.detail,
        "size": row.size,
        "payload": row.payload[:120].decode(errors="replace"),
        "more": row.more or None,
    }


def _lines(lane: str, row: Row, *, whole: bool) -> Iterator[str]:
    for name, value in _plain(lane, row).items():
        if name not in {"payload", "lane"} and value not in (None, ""):
            yield f"{name:8} {value}"
    if row.identities:
        yield "counted  " + ", ".join(f"{boot}/{seq}" for boot, seq in row.identities) + ": receipted, and stored only by a retry"
    if row.unfit:
        yield f"no retry {row.unfit}"
    if not row.payload:
        return
    place = PLACE.search(row.detail)
    if place is not None:
        at = int(place[1])
        before, after = row.payload[max(0, at - AROUND) : at], row.payload[at : at + AROUND]
        yield f"where    {_text(before)}▶{_text(after)}"
    payload = row.payload if whole else row.payload[:SHOWN_BYTES]
    yield ""
    yield _text(payload)
    yield ""
    yield from _bytes(payload)
    if len(payload) < len(row.payload):
        yield f"… {len(row.payload) - len(payload)} bytes more; --whole shows them"


def _text(payload: bytes) -> str:
    """The payload as text that no terminal obeys."""
    return "".join(c if c.isprintable() else "·" for c in payload.decode(errors="replace"))


def _bytes(payload: bytes) -> Iterator[str]:
    for start in range(0, len(payload), 16):
        line = payload[start : start + 16]
        yield f"{start:06x}  {line.hex(' '):47}  {''.join(chr(b) if 32 <= b < 127 else '.' for b in line)}"  # noqa: PLR2004 - ASCII
