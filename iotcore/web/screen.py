"""A whole page: the frame with its language, its clock, and who looks at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quart import Response, g, request

from iotcore.clock import Clock
from iotcore.registry.rights import Right, Visitor
from iotcore.web.render import Pages
from iotcore.web.words import LANGUAGES, Language

LANGUAGE_COOKIE = "language"


class Screen:
    """Draws pages for the request at hand. `cursor()` is where the live stream goes on from."""

    def __init__(self, pages: Pages, clock: Clock, language: Language, cursor: Callable[[], str]) -> None:
        self.pages = pages
        self._clock = clock
        self._language = language
        self._cursor = cursor

    def language(self) -> Language:
        """The language of whoever asks: the cookie's, else the installation's."""
        wanted = request.cookies.get(LANGUAGE_COOKIE)
        return next((language for language in LANGUAGES if language == wanted), self._language)

    def page(self, template: str, code: int = 200, **values: Any) -> Response:
        """A page; `visitor` and `may` (the rights held anywhere) are known to every template."""
        visitor: Visitor | None = g.get("visitor")
        rights = [right.value for right in Right if visitor is not None and visitor.may_somewhere(right)]
        text = self.pages.draw(
            template,
            self.language(),
            cursor=self._cursor(),
            now_ms=self._clock.wall_ms(),
            path=request.path,
            visitor=visitor,
            may=rights,
            **values,
        )
        return Response(text, code, content_type="text/html; charset=utf-8")
