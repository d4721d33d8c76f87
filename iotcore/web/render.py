"""Pages and their pieces as HTML: the same templates draw the first page and every live change of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2

from iotcore.web.view import Shown
from iotcore.web.words import LANGUAGES, Language, Words, load


class Pages:
    """All templates in all languages."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("iotcore.web"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        icons: Any = self._environment.get_template(
            "icons.html"
        ).module  # once: a row that imports it itself takes thrice as long
        self._environment.globals |= {"blind": blind, "dark": dark, "icon": icons.icon}
        self._words: dict[Language, Words] = {language: load(language) for language in LANGUAGES}

    def both(self) -> tuple[Words, Words]:
        """Vietnamese and English."""
        return self._words["vi"], self._words["en"]

    def draw(self, template: str, language: Language, **values: Any) -> str:
        """A whole page."""
        return self._environment.get_template(template).render(t=self._words[language], **values)

    def incident(self, incident: Shown, language: Language) -> str:
        """One incident's card."""
        return self.draw("incident.html", language, incident=incident)

    def device(self, device: Shown, language: Language) -> str:
        """One device's row."""
        return self.draw("device_row.html", language, device=device)

    def status(self, status: Mapping[str, Any], language: Language) -> str:
        """The strip that says how the platform itself is."""
        return self.draw("status.html", language, status=status)


def dark(status: Shown) -> bool:
    """Whether a receiver of alarms does not answer, or has not acknowledged a fire in time."""
    return any(not path["up"] or path["undelivered"] for path in status["paths"])


def blind(status: Shown) -> bool:
    """Whether the page cannot see fires: their journal is unreadable, or the fire process does not beat."""
    fire = [beats for name, beats in status["processes"].items() if name.partition("-")[0] == "fire"]
    return not status["readable"]["journal"] or (bool(fire) and not any(fire))
