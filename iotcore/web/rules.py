"""Fire rules on the page: what is in use and where it comes from, each with its history; edited, tried on the past, and saved.

/rules  /rules/<rule>      for whoever may see; a rule of one place for whoever sees that place
/rules/try  /rules/save  /rules/<rule>/remove      by a form, for whoever may change rules
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from quart import Quart, Response, abort, redirect, request

from iotcore.alarms import rule_book, rule_text
from iotcore.errors import ConfigError, Problem, QueryError, Refused
from iotcore.registry.rights import Right
from iotcore.web.door import Door, Scope, visiting
from iotcore.web.history import NOT_FOUND
from iotcore.web.rule_desk import TRIED_DAYS, RuleDesk
from iotcore.web.rules_api import RulesApi
from iotcore.web.screen import Screen

CONFLICT, UNPROCESSABLE, BUSY = 409, 422, 429
VERSIONS = 20
NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class RulePages:
    """The routes of people, and those of programs."""

    desk: RuleDesk

    def add(self, app: Quart, door: Door, screen: Screen) -> None:
        """Declare the routes, each with its right."""
        RulesApi(self.desk).add(app, door)
        pages = _Pages(self.desk, screen)
        door.route(app, "/rules", pages.listed, right=Right.SEE, of=Scope.FILTERED)
        door.route(app, "/rules/<key>", pages.shown, right=Right.SEE, of=Scope.FILTERED)
        door.route(app, "/rules/try", pages.tried, right=Right.CHANGE_RULES, methods=["POST"])
        door.route(app, "/rules/save", pages.save, right=Right.CHANGE_RULES, methods=["POST"])
        door.route(app, "/rules/<key>/remove", pages.remove, right=Right.CHANGE_RULES, methods=["POST"])


@dataclass(frozen=True, slots=True)
class _Form:
    """What was sent: the text, and which version of which document it was made of."""

    key: str
    text: str
    version: int


@dataclass(frozen=True, slots=True)
class _Pages:
    desk: RuleDesk
    screen: Screen

    async def listed(self) -> Response:
        """All that are in use."""
        seen = self.desk.seen(visiting())
        rules = [(one, rule_book.scope_of(one.rule), self.desk.trouble(one.key)) for one in seen]
        return self.screen.page("rules.html", rules=rules, unreadable=self.desk.rules.unreadable)

    async def shown(self, key: str) -> Response:
        """One, with its history, and a form for whoever may change it."""
        return await self._page(key)

    async def tried(self) -> Response:
        """How often the edited version would have fired in the last days, beside the one in use."""
        form = await _form()
        try:
            edited = self.desk.checked(rule_text.parse(form.text, "rule"))
            found = await self.desk.tried(edited, edited.key, TRIED_DAYS, visiting())
        except ConfigError as error:
            return await self._page(form.key, UNPROCESSABLE, form=form, problems=error.problems)
        except Refused as error:
            return await self._page(form.key, BUSY, form=form, refused=error)
        except QueryError as error:
            return await self._page(form.key, form=form, untold=str(error))
        return await self._page(form.key, form=form, tried=found)

    async def save(self) -> Response:
        """Keep the edited version."""
        form = await _form()
        try:
            documents = rule_text.parse(form.text, "rule")
            checked = self.desk.checked(documents)
            expected = form.version if checked.key == form.key else 0
            await self.desk.save(documents, expected, visiting())
        except ConfigError as error:
            return await self._page(form.key, UNPROCESSABLE, form=form, problems=error.problems)
        except Refused as error:
            return await self._page(form.key, CONFLICT, form=form, refused=error)
        return redirect(f"/rules/{checked.key}", 303)  # type: ignore[return-value]  # quart's own wrapper of a response

    async def remove(self, key: str) -> Response:
        """Forget the document: the base's rule holds again."""
        form = await _form()
        try:
            await self.desk.remove(key, form.version, visiting())
        except ConfigError as error:
            return await self._page(key, UNPROCESSABLE, problems=error.problems)
        except Refused as error:
            return await self._page(key, CONFLICT, refused=error)
        return redirect("/rules", 303)  # type: ignore[return-value]  # as above

    async def _page(
        self, key: str, code: int = 200, *, form: _Form | None = None, problems: tuple[Problem, ...] = (), **values: Any
    ) -> Response:
        one = self.desk.one(key, visiting())
        if one is None and form is None:
            abort(NOT_FOUND, "no such rule")
        document = rule_text.as_yaml(await self.desk.document(one)) if one is not None else ""
        versions = await self.desk.store.versions(key, limit=VERSIONS)
        told = [
            (later, rule_text.changed(rule_text.body_of(earlier.body), rule_text.body_of(later.body)))
            for later, earlier in pairwise(versions)
        ]
        shown: dict[str, Any] = {"tried": None, "refused": None, "untold": "", **values}
        return self.screen.page(
            "rule.html",
            code,
            key=key,
            one=one,
            scope=rule_book.scope_of(one.rule) if one is not None else "",
            document=document,
            text=form.text if form is not None else document,
            version=form.version if form is not None else self.desk.rules.version(key),
            trouble=self.desk.trouble(key),
            versions=[*told, *((first, []) for first in versions[-1:])],
            problems=problems,
            days=TRIED_DAYS,
            **shown,
        )


async def _form() -> _Form:
    sent = await request.form
    version = sent.get("version", "0")
    text = sent.get("text", "").replace("\r\n", "\n")
    return _Form(sent.get("rule", ""), text, int(version) if NUMBER.fullmatch(version) else 0)
