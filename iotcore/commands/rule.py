"""`iotcore rule …`: the fire rules that are in use, and the registry's documents of them. Back-tests are in `rule_test`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iotcore.alarms import rule_book, rule_saving
from iotcore.alarms.rule_book import Kept
from iotcore.alarms.rule_saving import Checked, Known
from iotcore.alarms.rule_text import asked_of_another, body_of, changed, parse
from iotcore.app import common
from iotcore.clock import Clock
from iotcore.commands import moments, office, who
from iotcore.commands.near import near
from iotcore.errors import ConfigError, Problem, StartError
from iotcore.process.ruled import Ruled
from iotcore.registry.groups import GroupStore
from iotcore.registry.rule_documents import RuleStore, insist
from iotcore.registry.store import Registry
from iotcore.settings import Settings

MAX_BYTES = 10_000_000  # of a file with rules
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Book:
    """The registry's rules, read now."""

    registry: Registry
    store: RuleStore
    ruled: Ruled
    known: Known

    def of(self, key: str) -> Kept:
        """A rule in use.

        Raises:
            StartError: there is none of this key.
        """
        if key not in self.ruled.in_use:
            raise StartError(f"There is no rule {key}", near(key, self.ruled.in_use))
        return self.ruled.in_use[key]

    def insist(self, expected: Mapping[str, int]) -> None:
        """Refuse other versions before a second person's word is used up; raises Refused(`conflict`)."""
        for key, version in expected.items():
            insist(key, self.ruled.version(key), version)


@asynccontextmanager
async def opened(settings: Settings, clock: Clock) -> AsyncIterator[Book]:
    """The rules and all that they may name."""
    specs = common.specs_of(settings)
    base = common.rules_of(settings, {})
    async with office.opened(settings) as registry:
        store = RuleStore(registry.database)
        ruled = Ruled(store, base, clock)
        await ruled.refresh()
        groups = await GroupStore(registry.database).all()
        yield Book(registry, store, ruled, Known(specs, await registry.directory(specs), set(groups), base, ruled.in_use))


async def listed(settings: Settings, clock: Clock) -> list[Row]:
    """A row for each rule in use; what cannot be used is told beside it."""
    async with opened(settings, clock) as book:
        return [row(one, book.ruled) for one in book.ruled.in_use.values()]


def row(one: Kept, ruled: Ruled) -> Row:
    """A rule in use, as lists show it."""
    trouble = next((str(found) for found in ruled.troubles if found.key == one.key), "")
    return {
        "rule": one.key,
        "severity": one.rule.severity,
        "hazard": one.rule.hazard,
        "scope": rule_book.scope_of(one.rule),
        "origin": one.origin,
        "version": one.version,
        "by": one.by,
        "trouble": trouble,
    }


async def shown(settings: Settings, clock: Clock, key: str, version: int | None) -> Row:
    """A rule as it is in use, or one version of its document."""
    async with opened(settings, clock) as book:
        if version is None:
            return await _in_use(book, key)
        found = await book.store.version(key, version)
        if found is None:
            raise StartError(f"There is no version {version} of the rule {key}", f"See: iotcore rule history {key}")
        return {"rule": key, "version": version, "by": found.by, "at": moments.utc(found.at_ms), "document": body_of(found.body)}


async def _in_use(book: Book, key: str) -> Row:
    one = book.of(key)
    document = rule_book.plain(one.rule)
    if one.version and (found := await book.store.version(key, one.version)) is not None:
        document = body_of(found.body)
    told = row(one, book.ruled)
    return {**{name: told[name] for name in ("rule", "origin", "version", "by", "trouble")}, "document": document}


def documents_in(file: Path) -> list[tuple[str, Any]]:
    """The rules of a file, each with what to call it: one rule, a list of them, or a rule file.

    Raises:
        ConfigError: it cannot be read, or holds none.
    """
    try:
        content = file.read_bytes()
        if len(content) > MAX_BYTES:
            raise ConfigError([Problem(str(file), "", f"has {len(content)} bytes, and {MAX_BYTES} are the most")])
        text = content.decode()
    except OSError as error:
        raise ConfigError([Problem(str(file), "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(str(file), "", f"is not text: {error}")]) from error
    return parse(text, str(file))


async def checked(settings: Settings, clock: Clock, file: Path) -> list[str]:
    """The keys of the rules of a file; raises ConfigError with everything that is wrong."""
    async with opened(settings, clock) as book:
        return list(rule_saving.check(documents_in(file), book.known))


@dataclass(frozen=True, slots=True)
class Saving:
    """How to save or remove: only over this version, without doing it, or without a second person and why."""

    expect: int | None = None
    dry_run: bool = False
    alone: str = ""


async def save(settings: Settings, clock: Clock, file: Path, how: Saving) -> list[str]:
    """Check the rules of a file and keep them, all or none; what was done, a line each.

    Raises:
        ConfigError: with everything that is wrong with them.
        Refused: `conflict`, `too_many`, `second_person` or another reason of the two-person rule.
    """
    async with opened(settings, clock) as book:
        found = rule_saving.check(documents_in(file), book.known)
        if how.expect is not None and len(found) != 1:
            raise StartError(f"--expect is for one rule, and {file} holds {len(found)}", "Save them one by one, or without it.")
        dangerous = rule_saving.weakens({key: one.rule for key, one in found.items()}, book.known)
        said = [_would(key, one, book, key in dangerous) for key, one in found.items()]
        if how.dry_run:
            return [*said, "nothing was saved"]
        expected = {key: how.expect for key in found if how.expect is not None}
        book.insist(expected)
        async with who.opened(settings) as desk:
            if dangerous:
                await desk.second_person("rule.save", asked_of_another(found, dangerous, book.known), how.alone)
            made = await book.store.save({key: one.body for key, one in found.items()}, desk.by, expected)
    numbers = {one.key: one.version for one in made}
    return [f"rule {key} has version {numbers[key]}" if key in numbers else f"rule {key} is as it was" for key in found]


async def remove(settings: Settings, clock: Clock, key: str, how: Saving) -> str:
    """Forget a document; raises like `save`."""
    async with opened(settings, clock) as book:
        if problems := rule_saving.removable(key, book.known):
            raise ConfigError(problems)
        after = "the base's rule holds again" if key in rule_book.book(book.known.base, ()) else "nothing takes its place"
        if how.dry_run:
            return f"rule {key} would be removed: {after}; nothing was done"
        book.insist({} if how.expect is None else {key: how.expect})
        async with who.opened(settings) as desk:
            await desk.second_person("rule.remove", {"rule": key, "version": book.of(key).version}, how.alone)
            gone = await book.store.remove(key, desk.by, how.expect)
    if gone is None:
        raise StartError(f"There is no rule {key} any more", "Somebody else has removed it.")
    return f"rule {key} is removed: {after}"


async def history(settings: Settings, clock: Clock, key: str) -> list[Row]:
    """The versions of a document, the newest first."""
    async with opened(settings, clock) as book:
        found = await book.store.versions(key)
        if not found:
            book.of(key)
            raise StartError(f"The rule {key} was never changed", "It is as the base has it.")
    return [
        {
            "version": one.version,
            "by": one.by,
            "at": moments.utc(one.at_ms),
            "removed": not one.body,
            "document": body_of(one.body),
        }
        for one in found
    ]


async def diff(settings: Settings, clock: Clock, key: str, file: Path | None, versions: tuple[int | None, int | None]) -> str:
    """What is different between two versions of a rule, or between it and a file: as a unified diff of their YAML."""
    async with opened(settings, clock) as book:
        known = await book.store.versions(key)
        if not known and file is None:
            book.of(key)
        base = rule_book.book(book.known.base, ()).get(key)
        nothing = rule_book.plain(base.rule) if base is not None else None  # what holds where there is no document
        texts = {0: nothing, **{one.version: body_of(one.body) if one.body else nothing for one in known}}
        newest = book.ruled.in_use[key].version if key in book.ruled.in_use else 0
        before, after = versions
        if file is not None:
            documents = {rule_book.key_of(rule_book.read(body, name)): body for name, body in documents_in(file)}
            if key not in documents:
                raise StartError(f"{file} holds no rule {key}", near(key, documents))
            left, right = newest if before is None else before, -1
            texts[-1] = documents[key]
        else:
            right = newest if after is None else after
            left = max((one for one in texts if one < right), default=0) if before is None else before
        for number in (left, right):
            if number not in texts:
                raise StartError(f"There is no version {number} of the rule {key}", f"See: iotcore rule history {key}")
    names = [f"{key} version {number}" if number >= 0 else str(file) for number in (left, right)]
    return "\n".join(changed(texts[left], texts[right], (names[0], names[1])))


def _would(key: str, one: Checked, book: Book, dangerous: bool) -> str:  # noqa: FBT001 - one of four facts
    there = book.ruled.in_use.get(key)
    same = there is not None and there.rule == one.rule
    said = "is as it was" if same else "would change" if there is not None else "would be new"
    return f"rule {key} {said}{'; it takes two admins' if dangerous else ''}"
