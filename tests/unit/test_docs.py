"""Documentation is tested: links lead somewhere, commands are known, generated pages are current, examples run."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from iotcore import settings_page
from iotcore.cli import _parser
from iotcore.clock import SystemClock
from iotcore.journal import conduct, journal, quarantine
from iotcore.registry import group_query
from iotcore.registry.store import open_registry
from iotcore.specs import page as devices_page
from iotcore.specs.load import parse as parse_spec
from iotcore.telemetry import spool
from simulators import city
from tests.support.shipped import SPECS
from tests.unit.test_house import ROOT, files, name, tree

DOCS = ROOT / "docs"
READMES = (ROOT / "README.md", ROOT / "README.vi.md")
MAX_ADR_LINES = 60
MAX_PAGE_LINES = 75
FENCE = re.compile(r"^ *```(\w*)([^\n]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[(`?)([^\]`]*)`?\]\(([^)\s]+)\)")
SCHEMAS = {
    "quarantine": quarantine.SCHEMA,
    "conduct": conduct.SCHEMA,
    "spool": spool.SCHEMA,
    "journal": (Path(journal.__file__).parent / "schema.sql").read_text(encoding="utf-8"),
}


def pages() -> list[Path]:
    return [path for path in files() if path.suffix == ".md"]


def prose(path: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def blocks(path: Path, language: str) -> list[tuple[str, str]]:
    """The fenced blocks of a language: what else stands in their first line, and the block."""
    found = FENCE.findall(path.read_text(encoding="utf-8"))
    return [(words.strip(), block) for kind, words, block in found if kind == language]


def links(path: Path) -> list[tuple[str, str, str]]:
    """Links of a page to the repository: symbol or "", target, anchor."""
    found = []
    for code, text, target in LINK.findall(prose(path)):
        if not re.match(r"[a-z]+:", target):
            file, _, anchor = target.partition("#")
            found.append((text if code else "", file, anchor))
    return found


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def defined(path: Path) -> set[str]:
    """Names at the top of a module, and Class.method."""
    found = set()
    for node in tree(path).body:
        for one in getattr(node, "targets", [getattr(node, "target", node)]):
            found.add(getattr(one, "name", getattr(one, "id", "")))
        for inner in getattr(node, "body", []):
            found.add(f"{getattr(node, 'name', '')}.{getattr(inner, 'name', '')}")
            found.add(getattr(inner, "name", ""))
    return found


def commands(path: Path) -> list[list[str]]:
    """The command lines of a page's shell blocks, one for each program called; sudo and folders are taken off."""
    found = []
    for _, block in blocks(path, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&", line):
                words = shlex.split(part, comments=True)
                words = words[1:] if words[:1] == ["sudo"] else words
                if words:
                    found.append([Path(words[0]).name, *words[1:]])
    return found


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("path", pages(), ids=name)
def test_every_link_leads_somewhere(path: Path) -> None:
    for symbol, file, anchor in links(path):
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}"
        if symbol and target.suffix == ".py" and symbol != target.name and "/" not in symbol:
            assert symbol in defined(target), f"{symbol} is not in {file}"


@pytest.mark.parametrize("path", pages(), ids=name)
def test_every_command_on_a_page_is_one_that_there_is(path: Path) -> None:
    for words in commands(path):
        if words[0] == "iotcore":
            _parser().parse_args(words[1:])
        elif words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets(), words
    nouns = next(action.choices for action in _parser()._actions if action.choices)
    for noun in re.findall(r"`(?:\S*/)?iotcore ([a-z]+)[^`]*`", prose(path)):
        assert noun in nouns, noun
    for target in re.findall(r"`make ([a-z]+)[^`]*`", prose(path)):
        assert target in targets(), target


@pytest.mark.parametrize("path", READMES, ids=name)
def test_both_readmes_show_the_two_commands(path: Path) -> None:
    assert [words for words in commands(path) if words[0] == "make"] == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize("path", READMES, ids=name)
def test_both_readmes_count_the_simulated_city_right(path: Path) -> None:
    document = city.document()
    models = Counter(device["model"] for device in document["devices"])
    numbers = [len(document["premises"]), *(models[model] for model in (
        "iotcore-smoke-heat", "iotcore-call-point", "vaisala-aqt530", "endress-liquiline-cm44x", "iotcore-mqtt-signal"
    ))]  # fmt: skip
    words = " ".join(path.read_text(encoding="utf-8").split())
    assert re.search(r"\D+".join(rf"\b{number}\b" for number in numbers), words), numbers


def test_the_readme_is_honest_about_what_was_not_run() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for honest in ("checked statically", "No conformity is claimed", "No connection to 114", "does not end TLS"):
        assert honest in text


def test_settings_are_all_documented_and_the_page_is_current() -> None:
    assert settings_page.undocumented() == set()
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page.page(), "run: python -m iotcore.settings_page > docs/settings.md"


def test_the_page_of_supported_devices_is_current() -> None:
    page = (DOCS / "devices.md").read_text(encoding="utf-8")
    assert page == devices_page.page(SPECS), "run: python -m iotcore.specs.page > docs/devices.md"


def test_every_decision_is_in_the_index_and_on_one_page() -> None:
    there = {path.name for path in (DOCS / "adr").glob("*.md")} - {"README.md"}
    assert {file for _, file, _ in links(DOCS / "adr" / "README.md")} == there
    long = [path.name for path in (DOCS / "adr").glob("*.md") if len(path.read_text().splitlines()) > MAX_ADR_LINES]
    assert not long


def test_every_page_is_reachable_from_the_readme() -> None:
    seen: set[Path] = set()
    ahead = [READMES[0]]
    while ahead:
        page = ahead.pop()
        seen.add(page)
        found = {(page.parent / file).resolve() for _, file, _ in links(page) if file.endswith(".md")}
        ahead += found - seen
    assert {path for path in pages() if DOCS in path.parents} <= seen


def test_the_tour_and_the_vietnamese_introduction_stay_one_page() -> None:
    for path in (DOCS / "tour.md", READMES[1]):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_PAGE_LINES, path.name


def test_the_queries_for_operators_run_on_the_real_tables() -> None:
    queries = blocks(DOCS / "operations.md", "sql")
    assert {schema for schema, _ in queries} == set(SCHEMAS)
    for schema, statements in queries:
        connection = sqlite3.connect(":memory:")
        connection.executescript(SCHEMAS[schema])
        for statement in statements.strip().split(";\n"):
            assert connection.execute(statement.rstrip(";\n")).fetchall() == []
        connection.close()


def test_the_examples_for_makers_run(capsys: pytest.CaptureFixture[str]) -> None:
    examples = [block for _, block in blocks(DOCS / "simulators.md", "python")]
    assert len(examples) == 2
    for example in examples:
        exec(compile(example, "docs/simulators.md", "exec"), {"__name__": "example"})
    assert re.match(r"tcp://127\.0\.0\.1:\d+\?device_id=1\n\d+\n", capsys.readouterr().out)


def test_the_city_document_of_the_page_for_makers_is_accepted(tmp_path: Path) -> None:
    ((_, document),) = [found for found in blocks(DOCS / "simulators.md", "json") if found[0] == "city"]

    async def imported() -> int:
        async with await open_registry(f"sqlite://{tmp_path / 'registry.db'}", SystemClock()) as registry:
            return (await registry.import_city(json.loads(document), SPECS, "test")).added

    assert asyncio.run(imported()) == 3


def test_the_devices_of_the_page_for_vendors_can_be_imported(tmp_path: Path) -> None:
    documents = [block for words, block in blocks(DOCS / "vendor-mqtt.md", "json") if words == "city"]

    async def imported() -> list[int]:
        async with await open_registry(f"sqlite://{tmp_path / 'registry.db'}", SystemClock()) as registry:
            return [(await registry.import_city(json.loads(each), SPECS, "test")).added for each in documents]

    assert asyncio.run(imported()) == [1, 3]


def test_the_group_of_the_page_for_groups_is_one() -> None:
    ((_, document),) = blocks(DOCS / "groups.md", "json")
    found = group_query.read(json.loads(document))
    kinds = {part.__struct_config__.tag for part, _ in group_query.walk(found.query)}
    assert kinds == {"any", "all", "class", "key_site", "not", "label", "firmware", "parent"}


def test_the_specs_of_the_page_for_spec_writers_are_sound() -> None:
    examples = [block for words, block in blocks(DOCS / "specs.md", "yaml") if words == "spec"]
    found = [parse_spec(block.encode(), f"{block.split()[1]}.yaml") for block in examples]
    assert [(spec.model, len(spec.points)) for spec in found] == [("acme-co2", 1), ("acme-room", 1), ("acme-panel", 1590)]
