"""History of a device's points: JSON for programs, small charts for its page; both ask the one query interface.

    GET /api/v1/devices/{device}/points/{point}/samples?from=&to=&every=

`from` and `to` are ms since 1970 or a time with its zone (2026-11-22T02:00:00Z); `to` is now and `from` a day before it, unless
given. Without `every` the stored samples come, the newest `limit` of them; with it (30s, 5m, 1h, 1d) mean, minimum, maximum,
count and completeness of each interval. What is wrong is told as a problem document (RFC 9457).
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from quart import Response, request

from iotcore.clock import Clock
from iotcore.errors import QueryError
from iotcore.telemetry.query import MAX_SAMPLES, Query
from iotcore.web import chart
from iotcore.web.problem import problem
from iotcore.web.view import Shown

DAY_MS = 86_400_000
EVERY = re.compile(r"([1-9]\d{0,8})(ms|s|m|h|d)")
UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": DAY_MS}
LIMIT = 10_000  # samples in an answer that does not ask for more
CHARTS = 12  # of one page; a panel has 20,000 points
CHART_INTERVAL_MS = 15 * 60_000
CHART_PATIENCE_S = 2.0  # a page does not wait longer for a store that is slow or down
OURS = frozenset({"bad_range", "bad_interval", "bad_name", "too_many"})  # of a QueryError: the question is wrong, not the store
BAD_REQUEST, NOT_FOUND, UNAVAILABLE = 400, 404, 503


@dataclass(frozen=True, slots=True)
class History:
    """`query` is the store that is asked; None: there is none, as in a page without one."""

    query: Query | None
    clock: Clock

    async def samples(self, device: Shown | None, point: str) -> Response:
        """The answer of the API."""
        if device is None:
            return problem(NOT_FOUND, "unknown_device", "no such device is registered")
        try:
            return await self._samples(device["id"], point, request.args)
        except ValueError as error:
            return problem(BAD_REQUEST, "bad_parameter", str(error))
        except QueryError as error:
            return problem(BAD_REQUEST if error.reason in OURS else UNAVAILABLE, error.reason, error.detail)

    async def charts(self, device: Shown) -> dict[str, Any]:
        """What the page shows: a chart for each number, or why there is none."""
        numbers = [one for one in device["values"] if isinstance(one["value"], float) or one["value"] is None][:CHARTS]
        end_ms = math.ceil(self.clock.wall_ms() / CHART_INTERVAL_MS) * CHART_INTERVAL_MS
        start_ms = end_ms - DAY_MS
        drawn = []
        if self.query is None:
            return {"charts": [], "history_trouble": "no_database"}
        try:
            async with asyncio.timeout(CHART_PATIENCE_S):
                for one in numbers:
                    found = await self.query.intervals([device["id"]], one["point"], start_ms, end_ms, CHART_INTERVAL_MS)
                    made = chart.draw(found, start_ms, end_ms, CHART_INTERVAL_MS)
                    if made is not None:
                        drawn.append({**one, "chart": made})
        except (QueryError, TimeoutError) as error:
            return {"charts": drawn, "history_trouble": error.reason if isinstance(error, QueryError) else "slow"}
        return {"charts": drawn, "history_trouble": ""}

    async def _samples(self, device: str, point: str, asked: Mapping[str, str]) -> Response:
        if self.query is None:
            raise QueryError("no_database", "this page has no telemetry store")
        end_ms = moment("to", asked.get("to", ""), self.clock.wall_ms())
        start_ms = moment("from", asked.get("from", ""), end_ms - DAY_MS)
        if start_ms >= end_ms:
            raise ValueError("from must be before to")
        head = {"device": device, "point": point, "from_ms": start_ms, "to_ms": end_ms}
        if every := asked.get("every", ""):
            interval_ms = span_ms(every)
            intervals = await self.query.intervals([device], point, start_ms, end_ms, interval_ms)
            found = [{name: value for name, value in one._asdict().items() if name != "device"} for one in intervals]
            return answer({**head, "every_ms": interval_ms, "intervals": found})
        samples = await self.query.samples(device, point, start_ms, end_ms, limit(asked.get("limit", "")))
        return answer({**head, "samples": [{**one._asdict(), "quality": one.quality.value} for one in samples]})


def moment(name: str, text: str, otherwise: float) -> float:
    """A time of a question, in ms UTC.

    Raises:
        ValueError: it is none, in words for whoever asks.
    """
    if not text:
        return otherwise
    if re.fullmatch(r"-?\d{1,15}", text):
        return float(text)
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))  # an unescaped + comes as a blank
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError(f"{name} must be ms since 1970 or a time with its zone, as 2026-11-22T02:00:00Z, not {text[:40]!r}")
    return at.timestamp() * 1000.0


def span_ms(text: str) -> int:
    """The length of an interval.

    Raises:
        ValueError: it is none, in words for whoever asks.
    """
    found = EVERY.fullmatch(text)
    if found is None:
        raise ValueError(f"every must be a number with ms, s, m, h or d, as 5m, not {text[:40]!r}")
    return int(found[1]) * UNIT_MS[found[2]]


def limit(text: str) -> int:
    """How many samples are wanted.

    Raises:
        ValueError: it is no number, in words for whoever asks.
    """
    if text and not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise ValueError(f"limit must be a number from 1 to {MAX_SAMPLES}, not {text[:40]!r}")
    return min(int(text or LIMIT), MAX_SAMPLES)


def answer(document: Mapping[str, Any]) -> Response:
    """JSON; a number that is none becomes null before it comes here."""
    return Response(json.dumps(document, ensure_ascii=False, allow_nan=False), content_type="application/json")
