"""How a simulated fire device delivers when MQTT does not work: its readings by HTTPS, with the same certificate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp

from iotcore.errors import DeliveryError
from iotcore.wire.arrival import Endpoint
from iotcore.wire.messages import ReadingMessage, encode

ANSWER_LIMIT_S = 10.0
TAKEN = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What the platform said. `reason` is "" where it took something; `up_to` says of each boot how far it has everything."""

    status: int
    reason: str
    taken: int
    up_to: Mapping[str, int]
    refused: Sequence[str]
    retry_s: float


async def post(
    at: Endpoint,
    device: str,
    content: ReadingMessage | Sequence[ReadingMessage] | bytes,
    *,
    kind: Literal["readings", "events"] = "readings",
) -> Answer:
    """Say one message, an array of them, or any bytes, to the listener `at`, with the certificate that it names.

    Raises:
        DeliveryError: `no_answer`: the listener cannot be reached, or does not let this certificate in.
    """
    messages = content if isinstance(content, bytes) else _body(content)
    url = f"https://{at.host}:{at.port}/iotcore/v1/{kind}/{device}"
    limit = aiohttp.ClientTimeout(total=ANSWER_LIMIT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as session,
            session.post(url, data=messages, headers={"Content-Type": "application/json"}, ssl=at.tls()) as response,
        ):
            return _answer(response.status, response.headers, await response.json(content_type=None))
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise DeliveryError("no_answer", str(error)) from error


def _body(content: ReadingMessage | Sequence[ReadingMessage]) -> bytes:
    if isinstance(content, ReadingMessage):
        return encode(content)
    return b"[" + b",".join(encode(message) for message in content) + b"]"


def _answer(status: int, headers: Mapping[str, str], said: dict[str, Any]) -> Answer:
    taken = status == TAKEN
    return Answer(
        status,
        "" if taken else said["type"].rpartition(":")[2],
        said["taken"] if taken else 0,
        {one["boot"]: one["up_to"] for one in said["receipts"]} if taken else {},
        [one["reason"] for one in said["refused"]] if taken else [],
        float(headers.get("Retry-After", 0)),
    )
