"""The API of fire rules. A document goes in as JSON, or as YAML (`Content-Type: application/yaml`).

    GET     /api/v1/rules                  in use: where each comes from, and what cannot be used
    GET     /api/v1/rules/{rule}           as it is in use; its ETag is the version of its document ("0": there is none)
    GET     /api/v1/rules/{rule}/history   versions, the newest first; `before` goes on
    PUT     /api/v1/rules/{rule}           save, with `If-Match` of the version that was seen (or `If-None-Match: *`)
    DELETE  /api/v1/rules/{rule}           remove its document, likewise
    POST    /api/v1/rules/{rule}/trial     how often it would have fired in the last `days`; with a document, that one beside it

`dry_run=true` checks and saves nothing. What is wrong is a problem document (RFC 9457), which lists every error with its path.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
from quart import Quart, Response, request

from iotcore.alarms import rule_book, rule_saving, rule_text
from iotcore.alarms.rule_book import Kept
from iotcore.errors import ConfigError, Problem, QueryError, Refused
from iotcore.registry.rights import Right
from iotcore.web.door import Door, Scope, visiting
from iotcore.web.history import BAD_REQUEST, NOT_FOUND, UNAVAILABLE, answer
from iotcore.web.problem import problem
from iotcore.web.rule_desk import TRIED_DAYS, Row, RuleDesk

CREATED, CONFLICT, PRECONDITION_FAILED, UNPROCESSABLE, PRECONDITION_REQUIRED, TOO_MANY = 201, 409, 412, 422, 428, 429
CODES = {"conflict": PRECONDITION_FAILED, "busy": TOO_MANY}  # of a Refused; all others are a conflict
ETAG = re.compile(r'(?:W/)?"(\d{1,18})"\Z')
MAX_DAYS = 31.0
NO_SUCH = "there is no such rule, or it is not in your area"


@dataclass(frozen=True, slots=True)
class RulesApi:
    """The routes of programs."""

    desk: RuleDesk

    def add(self, app: Quart, door: Door) -> None:
        """Declare the routes: to see is for everybody, to change is a right of its own that knows no bounds."""
        seeing: list[tuple[str, Callable[..., Awaitable[Response]]]] = [
            ("", self.listed),
            ("/<key>", self.shown),
            ("/<key>/history", self.history),
        ]
        for path, handler in seeing:
            door.route(app, f"/api/v1/rules{path}", handler, right=Right.SEE, of=Scope.FILTERED)
        changing: list[tuple[str, str, Callable[..., Awaitable[Response]]]] = [
            ("/<key>", "PUT", self.save),
            ("/<key>", "DELETE", self.remove),
            ("/<key>/trial", "POST", self.trial),
        ]
        for path, method, handler in changing:
            guarded = _told(handler)
            door.route(app, f"/api/v1/rules{path}", guarded, right=Right.CHANGE_RULES, methods=[method])

    async def listed(self) -> Response:
        """Every rule in use that one may see."""
        rows = [self._row(one) for one in self.desk.seen(visiting())]
        troubles = [row["trouble"] for row in rows if row["trouble"]]
        return answer({"rules": rows, "troubles": troubles, "unreadable": self.desk.rules.unreadable})

    async def shown(self, key: str) -> Response:
        """One, with its document."""
        one = self.desk.one(key, visiting())
        if one is None:
            return problem(NOT_FOUND, "unknown_rule", NO_SUCH)
        return self._tagged(answer({**self._row(one), "document": await self.desk.document(one)}), key)

    async def history(self, key: str) -> Response:
        """The versions of a document; those of one that is removed are for whoever may change rules."""
        visitor = visiting()
        if self.desk.one(key, visitor) is None and not visitor.may(Right.CHANGE_RULES):
            return problem(NOT_FOUND, "unknown_rule", NO_SUCH)
        before = request.args.get("before", "")
        if before and not re.fullmatch(r"\d{1,18}", before):
            return problem(BAD_REQUEST, "bad_parameter", "before must be a version")
        found = await self.desk.store.versions(key, int(before) if before else None)
        rows = [
            {"version": one.version, "by": one.by, "at_ms": one.at_ms, "document": rule_text.body_of(one.body)} for one in found
        ]
        return answer({"rule": key, "versions": rows, "next_before": rows[-1]["version"] if rows else None})

    async def save(self, key: str) -> Response:
        """Save the document of the body under its name."""
        expected = _expected()
        document = [(key, await _body(key))]
        known = self.desk.known()
        checked = rule_saving.check(document, known)
        if list(checked) != [key]:
            path, named = ("id", next(iter(checked)))
            raise ConfigError([Problem(key, path, f"the document is {named}: put it there, or change its id or scope")])
        if _dry_run():
            dangerous = rule_saving.weakens({key: checked[key].rule}, known)
            return answer({"rule": key, "saved": False, "takes_two": bool(dangerous)})
        was = self.desk.rules.version(key)
        made = await self.desk.save(document, expected, visiting())
        version = made[0].version if made else was
        done = self._tagged(answer({"rule": key, "saved": bool(made), "version": version}), key)
        done.status_code = CREATED if made and not was else 200
        return done

    async def remove(self, key: str) -> Response:
        """Remove a document: the base's rule holds again, where there is one."""
        expected = _expected()
        if key not in self.desk.rules.in_use:
            return problem(NOT_FOUND, "unknown_rule", NO_SUCH)
        if _dry_run():
            if problems := rule_saving.removable(key, self.desk.known()):
                raise ConfigError(problems)
            return answer({"rule": key, "removed": False, "takes_two": True})
        gone = await self.desk.remove(key, expected, visiting())
        return answer({"rule": key, "removed": gone is not None, "version": gone.version if gone is not None else None})

    async def trial(self, key: str) -> Response:
        """How often it would have fired."""
        days = _days()
        raw = await request.get_data()
        edited = self.desk.checked([(key, await _body(key))]) if raw.strip() else None
        if edited is None and key not in self.desk.rules.in_use:
            return problem(NOT_FOUND, "unknown_rule", NO_SUCH)
        found = await self.desk.tried(edited, key, days, visiting())
        outcomes = {"in_use": found.in_use, **({"edited": found.edited} if found.edited is not None else {})}
        evidence = found.evidence
        return answer(
            {
                "rule": edited.key if edited is not None else key,
                "days": days,
                **{
                    name: {
                        "fires": one.count,
                        "first_alarms": one.first_alarms,
                        "premises": dict(one.by_premises),
                        "firings": [asdict(firing) for firing in sorted(one.firings, key=lambda firing: firing.at_ms)],
                    }
                    for name, one in outcomes.items()
                },
                "judged": {"devices": evidence.devices, "with_data": evidence.with_data, "readings": evidence.readings},
                "cannot_tell": found.notes,
            }
        )

    def _row(self, one: Kept) -> Row:
        return {
            "rule": one.key,
            "severity": one.rule.severity,
            "hazard": one.rule.hazard,
            "scope": rule_book.scope_of(one.rule),
            "origin": one.origin,
            "version": one.version,
            "by": one.by,
            "at_ms": one.at_ms,
            "trouble": self.desk.trouble(one.key),
        }

    def _tagged(self, response: Response, key: str) -> Response:
        response.headers["ETag"] = f'"{self.desk.rules.version(key)}"'
        return response


def _told(handler: Callable[..., Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
    """What is wrong, as a problem document."""

    async def told(key: str) -> Response:
        try:
            return await handler(key)
        except ConfigError as error:
            errors = [{"path": one.path, "reason": one.reason, "document": one.file} for one in error.problems]
            return problem(UNPROCESSABLE, "invalid_rule", f"{len(errors)} things are wrong; nothing was saved", errors=errors)
        except _MissingPreconditionError as error:
            return problem(PRECONDITION_REQUIRED, "precondition_required", str(error))
        except Refused as error:
            return problem(CODES.get(error.reason, CONFLICT), error.reason, error.detail)
        except QueryError as error:
            return problem(UNAVAILABLE, error.reason, error.detail)
        except ValueError as error:
            return problem(BAD_REQUEST, "bad_parameter", str(error))

    return told


class _MissingPreconditionError(Exception):
    """Whoever changes something says which version they have seen."""


def _expected() -> int:
    if request.headers.get("If-None-Match", "") == "*":
        return 0
    said = request.headers.get("If-Match", "")
    if not said:
        raise _MissingPreconditionError('send If-Match with the ETag that you have seen ("0": there is no document yet)')
    found = ETAG.fullmatch(said.strip())
    if found is None:
        raise ValueError(f'If-Match must be one version, such as "3", not {said[:40]}')
    return int(found[1])


async def _body(key: str) -> Any:
    """The document that was sent."""
    raw = await request.get_data()
    if "yaml" in (request.content_type or ""):
        (_, document), *more = rule_text.parse(_text(raw, key), key)
        if more:
            raise ConfigError([Problem(key, "", "is more than one rule; put them one by one")])
        return document
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(key, "", f"is not JSON: {error}")]) from error


def _text(raw: str | bytes, key: str) -> str:
    try:
        return raw if isinstance(raw, str) else raw.decode()
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(key, "", f"is not text: {error}")]) from error


def _days() -> float:
    text = request.args.get("days", "")
    try:
        days = float(text) if text else TRIED_DAYS
    except ValueError:
        days = 0.0
    if not 0.0 < days <= MAX_DAYS:
        raise ValueError(f"days must be more than 0 and at most {MAX_DAYS:g}, not {text[:40]!r}")
    return days


def _dry_run() -> bool:
    return request.args.get("dry_run", "") in {"1", "true", "yes"}
