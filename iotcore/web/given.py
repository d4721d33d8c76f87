"""What a request says: a form of our own page, or JSON of a program; and how it is answered."""

from __future__ import annotations

import json
from typing import Any

from quart import Response, redirect, request

from iotcore.errors import Refused
from iotcore.web.cookies import local
from iotcore.web.problem import problem, wants_problem

CONFLICT, NOT_FOUND, UNPROCESSABLE = 409, 404, 422
CONFLICTS = frozenset(
    {"conflict", "disabled", "in_walk", "decided", "same_person", "second_person", "fire", "not_acknowledged", "drill_waits"}
)


async def given() -> dict[str, Any]:
    """The fields; empty for a body that is neither."""
    if request.is_json:
        found = await request.get_json(silent=True)
        return found if isinstance(found, dict) else {}
    return dict(await request.form)


def number(fields: dict[str, Any], name: str, otherwise: float) -> float:
    """A number of a form or of JSON.

    Raises:
        Refused: `bad_number`.
    """
    try:
        found = float(fields.get(name, otherwise))
    except (TypeError, ValueError):
        found = float("nan")
    if not abs(found) < 1e15:  # noqa: PLR2004 - neither infinite nor no number, and an exact integer
        raise Refused("bad_number", f"{name} is no number")
    return found


def programs() -> bool:
    """Whether a program asks: it gets JSON, and a person the page that they came from."""
    return wants_problem() or request.path.startswith("/api/")


def done(document: Any, back: str, status: int = 200) -> Response:
    """It is done: JSON for a program, the page again for a person."""
    if programs():
        return Response(json.dumps(document, ensure_ascii=False, allow_nan=False), status, content_type="application/json")
    return redirect(local(back), 303)  # type: ignore[return-value]  # quart's own wrapper of a response


def refused(why: Refused) -> Response:
    """It is refused, with the sentence that says why."""
    status = CONFLICT if why.reason in CONFLICTS else NOT_FOUND if why.reason.startswith("unknown_") else UNPROCESSABLE
    if programs():
        return problem(status, why.reason, why.detail)
    return Response(f"{why.detail or why.reason}\n", status, content_type="text/plain; charset=utf-8")
