"""What is wrong, as a problem document (RFC 9457), and who wants to be told so."""

from __future__ import annotations

import json
from typing import Any

from quart import Response, request


def problem(status: int, reason: str, detail: str, **members: Any) -> Response:
    """`reason` is a name that programs rely on; `members` are further ones of the document (RFC 9457, section 3.2)."""
    title = reason.replace("_", " ")
    document = {"type": f"urn:iotcore:problem:{reason}", "title": title, "status": status, "detail": detail, **members}
    return Response(json.dumps(document, ensure_ascii=False), status, content_type="application/problem+json")


def wants_problem() -> bool:
    """Whether a program asks, to whom a page says nothing."""
    path = request.path
    return path.startswith("/api/") or path == "/events" or "text/html" not in request.headers.get("Accept", "")
