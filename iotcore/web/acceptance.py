"""What stands on an acceptance record: the facts at the moment of the signature, in both languages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from iotcore.errors import StoreError
from iotcore.paper.record import Checked, Line, Record, Section, draw
from iotcore.registry.attachments import Content
from iotcore.registry.commissioning import Told
from iotcore.web import checklist
from iotcore.web.checklist import Known, Step
from iotcore.web.unit_view import Shown
from iotcore.web.words import Words

MS_PER_S = 1000.0
PHOTOS = 6  # the newest ones; all stay in the registry


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a record tells. `told` is the signature, `by` the account it came with, `now_ms` our clock (UTC)."""

    device: Shown
    known: Known
    steps: tuple[Step, ...]
    told: Told
    by: str
    now_ms: float


def with_record(facts: Facts, file: Content) -> Told:
    """The signature as it is kept: with the record and the steps that it was given for."""
    steps = [
        {"name": one.name, "condition": one.condition, "reason": one.reason, "latency_ms": one.latency_ms} for one in facts.steps
    ]
    return replace(facts.told, outcome={"steps": steps, "record": file.sha256}, file=file)


def drawn(facts: Facts, words: tuple[Words, Words], read: Callable[[str], bytes]) -> bytes:
    """The record as a PDF, not signed yet; `read` gives a photo by its hash."""
    vi, en = words
    whole = not checklist.open_steps(facts.steps)
    sections = [
        _section(words, "record.device", lines=_device(facts, vi, en)),
        _section(words, "record.place", lines=_place(facts, vi, en)),
        _section(words, "record.checks", steps=[_step(step, vi, en) for step in facts.steps]),
        *_test(facts, words),
        *_remarks(facts, words),
        _section(words, "record.signature", lines=_signature(facts, vi, en)),
        *_photos(facts, words, read),
    ]
    title = "record.title" if whole else "record.title_open"
    made = datetime.fromtimestamp(facts.now_ms / MS_PER_S, UTC)
    foot = " – ".join(each("record.foot") for each in words)
    return draw(Record(vi(title), en(title), made, sections, foot))


def _section(words: tuple[Words, Words], key: str, **content: Any) -> Section:
    vi, en = words
    return Section(vi(key), en(key), **content)


def _lines(vi: Words, en: Words, *lines: tuple[str, str]) -> list[Line]:
    return [Line(vi(key), en(key), value) for key, value in lines]


def _device(facts: Facts, vi: Words, en: Words) -> list[Line]:
    device = facts.device
    certificate = checklist.current(facts.known.certificates, facts.now_ms)
    identity = f"{certificate.serial} ({certificate.anchor}) – {vi.moment(certificate.not_after_ms)}" if certificate else ""
    own = device["publisher"] == device["id"]
    itself = " – ".join(words("device.itself") for words in (vi, en))
    if not device["proven"]:
        identity = " – ".join(words("device.unproven") for words in (vi, en))
    return _lines(
        vi,
        en,
        ("record.id", f"{device['id']} – {device['title']}"),
        ("device.model", device["model"]),
        ("device.class", f"{vi.of('class', device['class'])} – {en.of('class', device['class'])}"),
        ("device.firmware", device["firmware"]),
        ("device.publisher", itself if own else device["publisher"]),
        ("device.certificate", identity),
    )


def _place(facts: Facts, vi: Words, en: Words) -> list[Line]:
    device, entry = facts.device, facts.known.newest("location")
    where = entry.body if entry else {}
    degrees = ""
    if where.get("latitude") is not None:
        degrees = f"{where['latitude']:.6f}, {where['longitude']:.6f}"
        degrees += f" (± {where['accuracy_m']:.0f} m)" if where.get("accuracy_m") is not None else ""
    floor = " · ".join(part for part in (device["floor"], device["zone_name"]) if part)
    return _lines(
        vi,
        en,
        ("record.premises", device["premises_name"]),
        ("record.address", device["address"]),
        ("record.floor", floor),
        ("record.degrees", degrees),
        ("record.where", where.get("text", "")),
    )


def _step(step: Step, vi: Words, en: Words) -> Checked:
    found = [text for text in (vi.step(step), en.step(step)) if text]
    if step.latency_ms is not None:
        found += [words("check.latency", ms=words.ms(step.latency_ms)) for words in (vi, en)]
    return Checked(step.condition, vi(f"check.{step.name}"), en(f"check.{step.name}"), " – ".join(dict.fromkeys(found)))


def _test(facts: Facts, words: tuple[Words, Words]) -> list[Section]:
    """The road of the test alarm, moment by moment."""
    vi, en = words
    proof = next((one for one in facts.device["tests"] if one["proves"] and one["mode_ms"] >= facts.known.since_ms), None)
    if proof is None:
        return []
    lines = []
    for moment in proof["moments"]:
        after = "" if moment["after_ms"] is None else f"  (+{vi.ms(moment['after_ms'])} ms)"
        name = f"moment.{moment['name']}"
        lines.append(Line(vi(name), en(name), f"{vi.clock(moment['at_ms'])}{after}"))
    if proof["incident"]:
        lines.append(Line(vi("record.incident"), en("record.incident"), proof["incident"]))
    return [_section(words, "record.test", lines=lines)]


def _remarks(facts: Facts, words: tuple[Words, Words]) -> list[Section]:
    vi, en = words
    told = [one for one in facts.known.entries if one.kind == "remark"]
    lines = [Line(vi.moment(one.at_ms), one.by, one.body["text"]) for one in told]
    return [Section(vi("record.remarks"), en("record.remarks"), lines=lines)] if lines else []


def _signature(facts: Facts, vi: Words, en: Words) -> list[Line]:
    return _lines(
        vi,
        en,
        ("record.name", facts.told.body["name"]),
        ("record.account", facts.by),
        ("record.phone_time", vi.moment(facts.told.at_ms)),
        ("record.our_time", vi.moment(facts.now_ms)),
    )


def _photos(facts: Facts, words: tuple[Words, Words], read: Callable[[str], bytes]) -> list[Section]:
    since_ms = facts.known.since_ms
    vi, en = words
    files = [one.file for one in facts.known.entries if one.kind == "photo" and one.received_ms >= since_ms][-PHOTOS:]
    photos, gone = [], []
    for file in files:
        try:
            photos.append(read(file))
        except StoreError:  # somebody took it away: the record says so
            gone.append(Line(vi("record.gone"), en("record.gone"), file))
    return [_section(words, "record.photos", photos=photos, lines=gone)] if files else []
