"""What InfluxDB's answer to a write means. Pure: bytes in, a verdict and the lines it speaks of out.

    204                    taken
    400, 422, 500          that speaks of lines: some are wrong, the others are written or (2.x, 400) none is
    400                    that speaks of something else: doubtful, it may be the request, so no line is given up for it alone
    422                    some lines are wrong
    413                    too many at once
    everything else        not now; also 200 and redirects: that is a page somewhere, not InfluxDB

Which lines, as far as the answer says:

    1.x  `{"error": "partial write: unable to parse 'LINE': why …"}`, a row each: the line itself
    2.x  `{"code": "invalid", "message": "unable to parse 'LINE': why"}`: the line itself, and nothing of the batch is written
    1.x, 2.x (422)  `partial write: field type conflict: input field "F" on measurement "M" is type T, already exists as type U
         dropped=N`: what to look for; `dropped` counts one shard only, so there may be more
    3    `{"error": "partial write of line protocol occurred", "data": [{"line_number": 2, "error_message": why, …}]}`: its number
    3    by `/api/v2/write` (3.6 and later) 500 `{"code": "internal error", "message": "partial write of line protocol occurred"}`

Sources: docs.influxdata.com: /influxdb/v1/tools/api/#write-http-endpoint, /influxdb/v2/write-data/troubleshoot/,
/influxdb3/core/write-data/troubleshoot/, /influxdb3/core/write-data/http-api/v3-write-lp/; where these are silent, the servers'
own code: 1.8 services/httpd/handler.go, 2.7 http/write_handler.go, 3.10 influxdb3_server/src/http.rs. RFC 9110, Retry-After.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any, NamedTuple

TAKEN = 204
BAD_REQUEST, UNAUTHORISED, FORBIDDEN, NOT_FOUND, TOO_LARGE, UNPROCESSABLE, SERVER_ERROR = 400, 401, 403, 404, 413, 422, 500
MAX_RETRY_AFTER_S = 300.0  # a server that says "tomorrow" is asked again sooner
MAX_DETAIL = 300  # characters of a server's words that are kept

LINES = re.compile(r"partial write|unable to parse|field type conflict|beyond retention policy|failed to parse line protocol")
NAMELESS = "partial write of line protocol occurred"
UNPARSED = "unable to parse '"
DROPPED = re.compile(r"dropped=(\d+)")
CONFLICT = re.compile(r'input field "(?P<field>.+?)" on measurement "(?P<measurement>.+?)" is type (?P<type>\w+),')
VALUE_TYPES = {ord('"'): "string", ord("i"): "integer", ord("u"): "unsigned"}
BOOLEANS = frozenset({b"t", b"T", b"true", b"True", b"TRUE", b"f", b"F", b"false", b"False", b"FALSE"})
REASONS = {UNAUTHORISED: "not_authorised", FORBIDDEN: "not_authorised", NOT_FOUND: "no_database"}


class Answer(NamedTuple):
    """What the server said to one request; status 0 when it said nothing, and then `failure` names why."""

    status: int
    text: str
    retry_after: str = ""
    failure: str = "unreachable"
    version: str = ""  # X-Influxdb-Version
    date: str = ""  # Date: the server's clock

    @property
    def ok(self) -> bool:
        """Whether it is a success of any kind; for a write only TAKEN is."""
        return 200 <= self.status < 300  # noqa: PLR2004 - HTTP's own numbers

    @property
    def reason(self) -> str:
        """A name for what went wrong."""
        return REASONS.get(self.status, f"http_{self.status}") if self.status else self.failure

    def document(self) -> dict[str, Any]:
        """The JSON object that it holds; empty when it holds none."""
        try:
            found = json.loads(self.text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def message(self) -> str:
        """What it says in words, whatever the version."""
        document = self.document()
        said = document.get("message") or document.get("error")
        return said if isinstance(said, str) else self.text

    def detail(self) -> str:
        """As much of the words as is kept."""
        return self.message()[:MAX_DETAIL].strip()


class Verdict(Enum):
    """What becomes of the lines."""

    TAKEN = "taken"
    LINES = "lines"  # some are wrong
    SIZE = "size"  # too many at once
    DOUBTFUL = "doubtful"  # refused, and nothing says that the lines are why
    LATER = "later"


def verdict(answer: Answer) -> Verdict:
    """What an answer to a write means."""
    if answer.status == TAKEN:
        return Verdict.TAKEN
    if answer.status == TOO_LARGE:
        return Verdict.SIZE
    if answer.status in (BAD_REQUEST, UNPROCESSABLE, SERVER_ERROR) and LINES.search(answer.message()):
        return Verdict.LINES
    if answer.status == UNPROCESSABLE:
        return Verdict.LINES
    return Verdict.DOUBTFUL if answer.status == BAD_REQUEST else Verdict.LATER


def named(answer: Answer, records: Sequence[bytes]) -> dict[int, str]:
    """The wrong lines that the answer names itself: index → what is wrong with it."""
    entries = answer.document().get("data")
    if isinstance(entries, list):
        found = {entry.get("line_number"): str(entry.get("error_message")) for entry in entries if isinstance(entry, dict)}
        return {n - 1: why[:MAX_DETAIL] for n, why in found.items() if isinstance(n, int) and 1 <= n <= len(records)}
    said = answer.message()
    if UNPARSED not in said:
        return {}
    places: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        places.setdefault(record.decode(errors="replace"), []).append(index)
    wrong: dict[int, str] = {}
    for row in said.split("\n"):
        quoted = row.partition(UNPARSED)[2]
        for end in re.finditer("': ", quoted):  # the line itself may hold these two characters
            for index in places.get(quoted[: end.start()], ()):
                wrong[index] = f"unable to parse: {quoted[end.end() :]}"[:MAX_DETAIL]
    return wrong


def parts(answer: Answer, records: Sequence[bytes]) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """Two smaller batches to ask about: those the answer points at and the others, or else two halves."""
    found = CONFLICT.search(answer.message())
    if found is not None:
        pointed = _pointed(records, found["measurement"].encode(), found["field"].encode(), found["type"])
        if 0 < len(pointed) < len(records):
            return [r for i, r in enumerate(records) if i not in pointed], [records[i] for i in sorted(pointed)]
    middle = len(records) // 2
    return records[:middle], records[middle:]


def all_dropped(answer: Answer, count: int) -> bool:
    """Whether it says that it dropped as many lines as there were: then dividing them finds nothing new."""
    found = DROPPED.search(answer.message())
    return found is not None and int(found.group(1)) >= count


def retry_after_s(header: str, now_ms: float) -> float:
    """Retry-After is a number of seconds or an HTTP date; anything else counts as not given."""
    if header.isdecimal():
        return min(float(header), MAX_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    now = datetime.fromtimestamp(now_ms / 1000.0, UTC)
    return max(0.0, min((date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds(), MAX_RETRY_AFTER_S))


def _pointed(records: Sequence[bytes], measurement: bytes, field: bytes, kind: str) -> set[int]:
    """Lines of `measurement` that have `field` as a value of type `kind`. A guess: the server has the last word on each."""
    value = re.compile(rb"[ ,]" + re.escape(field) + rb'=("|[^ ,]+)')
    starts = (measurement + b",", measurement + b" ")
    return {
        index
        for index, record in enumerate(records)
        if record.startswith(starts) and any(_type(match.group(1)) == kind for match in value.finditer(record))
    }


def _type(value: bytes) -> str:
    """The type of a field value as line protocol writes it; its name is the server's."""
    return VALUE_TYPES.get(value[0]) or ("boolean" if value in BOOLEANS else VALUE_TYPES.get(value[-1], "float"))
