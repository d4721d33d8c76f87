"""Both languages say everything, and the templates ask for nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest

import iotcore.web
from iotcore.alarms.decisions import Reason
from iotcore.alarms.replay import Note
from iotcore.alarms.rule_book import Origin
from iotcore.alarms.rules import Hazard
from iotcore.alarms.signs import SIGNS
from iotcore.alarms.supervise import FAMILY
from iotcore.journal import objectives, story
from iotcore.journal.cad import STATUSES
from iotcore.journal.drill_heard import NO_ALARM
from iotcore.journal.drill_store import NO_POINT, NO_RECEIVER, NO_REPLY, NOT_HEARD, NOT_PRESSED
from iotcore.journal.drills import BURNING, MISSED, Source
from iotcore.journal.drills import State as DrillState
from iotcore.journal.paths import DOWN, UNDELIVERED
from iotcore.journal.records import Event, Severity
from iotcore.journal.states import State as AlarmState
from iotcore.reading import Quality
from iotcore.registry.city import AreaKind
from iotcore.registry.commissioning import EntryKind
from iotcore.registry.coverage import REASONS
from iotcore.registry.facts import APPROVED, ISSUED, REFUSED, WAITS
from iotcore.registry.records import State
from iotcore.registry.response import Profile
from iotcore.registry.rights import Right, Role
from iotcore.specs.model import DeviceClass
from iotcore.web.checklist import Condition, StepName
from iotcore.web.checklist import Reason as OpenReason
from iotcore.web.words import LANGUAGES, Language, load
from iotcore.wire.arrival import DRILL_REFUSED

TEMPLATES = Path(iotcore.web.__file__).parent / "templates"
CATALOGUES = {language: load(language).catalogue for language in LANGUAGES}
FAMILIES: dict[str, Iterable[str]] = {
    "class": get_args(DeviceClass),
    "state": get_args(State),
    "hazard": get_args(Hazard),
    "reason": [reason.value for reason in Reason],
    "quality": [quality.value for quality in Quality],
    "check": [*get_args(StepName), "latency"],
    "condition_of_step": get_args(Condition),
    "todo": get_args(OpenReason),
    "found": ("clock", "reading", "signal", "battery", "identity", "plausible", "budget"),
    "entry": get_args(EntryKind),
    "report_step": ("detector", "received", "decided", "durable", "sent", "delivered", "acknowledged"),
    "objective": get_args(objectives.Name),
    "verdict": get_args(objectives.Verdict),
    "attempt": ("no_reply", "nak", "duh", "rejected", "connect_failed", "connect_timeout", "connection_lost", "wrong_number",
                "wrong_address", "not_a_frame", "not_an_answer", "not_let_in", "not_allowed", "deferred", "nobody_confirmed",
                "gateway", "tls", "crashed", "other"),
    "moment": ("detector", "received", "decided", "durable", "sent", "delivered", "back"),
    "delivery": ("confirmed", "failing", "rejected", "sent", "waiting"),
    "cad": STATUSES.values(),
    "condition": ("ok", "fault", "offline", "waiting", "suspended", "retired"),
    "file": ("journal", "telemetry"),
    "fault": ("bad", "refused", "offline", "clock_past", "clock_future", "clock_unreadable", "clock_skew", "gap", "throttled",
              "certificate_ending", "certificate_expired", "cloned", MISSED, DOWN, UNDELIVERED, *FAMILY, *SIGNS),
    "why": ("not_finite", "wrong_type", "out_of_range", "timeout", "unknown_state", "not_read", "short", "stuck", "life_check",
            "not_present", "removed"),
    "refusal": (
        "oversized", "unknown_device", "wrong_domain", "wrong_publisher", "not_accepted", "not_json", "schema", "batch_too_long",
        "unknown_point", "retained", "topic", "wrong_broker", "unknown_topic", "ambiguous", "encoding", "length", "checksum",
        DRILL_REFUSED,
    ),
    "value": ("yes", "no"),
    "labels": ("title",),
    "config": ("unreported", "behind", "differs", "applied"),
    "area": (*get_args(AreaKind), "whole", "none"),
    "lack": REASONS,
    "rule_origin": get_args(Origin),
    "rule_severity": get_args(Severity),
    "rule_refused": ("conflict", "second_person", "busy", "too_many", "no_admin", "too_long"),
    "rule_note": get_args(Note),
    "role": [role.value for role in Role],
    "right": [*(right.value for right in Right), "session", "no_right_declared"],
    "approval": ("asked", "approved", "rejected", "used", "expired"),
    "refused_approval": ("unknown_approval", "decided", "expired", "same_person", "no_admin"),
    "request": (WAITS, APPROVED, REFUSED, ISSUED),
    "refused_request": ("unknown_request", "decided", "no_reason"),
    "way": ("password", "link", "oidc"),
    "refused_sign_in": (
        "wrong", "wrong_current", "wait_a_little", "busy", "needs_tls", "no_passwords", "bad_link", "weak_password", "bad_name",
        "known_user", "provider_down", "refused", "unknown_person", "no_role", "name_taken", "not_begun", "not_proved",
    ),
    "stage": ("burning", "acknowledged", "closed"),
    "out_kind": ("point", "device", "zone", "premises", "walk"),
    "profile": get_args(Profile),
    "owner_said": ("confirmed", "denied"),
    "alarm_state": [state.value for state in AlarmState],
    "severity": get_args(Severity),
    "told": get_args(Event),
    "story": [value for name, value in vars(story).items() if name.isupper() and name != "SCHEMA"],
    "drill_state": get_args(DrillState),
    "drill_source": get_args(Source),
    "drill_reason": (BURNING, "waits", NO_ALARM, NOT_HEARD, NOT_PRESSED, NO_POINT, NO_RECEIVER, NO_REPLY),
    "store": ("unreachable", "no_database", "not_authorised", "no_influxql", "unreadable", "slow"),
}  # fmt: skip


def asked() -> set[str]:
    """Every key that a template names in full."""
    text = "".join(path.read_text(encoding="utf-8") for path in TEMPLATES.glob("*.html"))
    code = (TEMPLATES.parent / "words.py").read_text(encoding="utf-8")
    papers = ("acceptance", "incident_paper", "drill_paper")
    paper = "".join((TEMPLATES.parent / f"{name}.py").read_text(encoding="utf-8") for name in papers)
    return (
        set(re.findall(r"""["']((?:record|device|report|response|case)\.[a-z_]+)["']""", paper))
        | set(re.findall(r'self\("([^"]+)"', code))
        | set(re.findall(r"""\bt\(["']([^"']+)["'][,)]""", text))
        | set(re.findall(r'else "([a-z]+\.[a-z_]+)"\)', text))
    )


def test_both_languages_have_the_same_keys() -> None:
    assert CATALOGUES["vi"].keys() == CATALOGUES["en"].keys()


def test_both_languages_fill_in_the_same_places() -> None:
    for key, text in CATALOGUES["vi"].items():
        assert set(re.findall(r"{(\w+)}", text)) == set(re.findall(r"{(\w+)}", CATALOGUES["en"][key])), key


def test_no_text_is_empty_and_vietnamese_is_not_english() -> None:
    for key, text in CATALOGUES["vi"].items():
        assert text.strip(), key
        assert CATALOGUES["en"][key].strip(), key
    same = [key for key, text in CATALOGUES["vi"].items() if text == CATALOGUES["en"][key]]
    assert same == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_key_of_a_template_is_known(language: Language) -> None:
    assert len(asked()) > 60
    assert asked() - CATALOGUES[language].keys() == set()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_word_that_the_platform_can_say_is_known(language: Language, family: str) -> None:
    assert {f"{family}.{name}" for name in FAMILIES[family]} - CATALOGUES[language].keys() == set()


def test_no_key_is_left_that_nobody_asks_for() -> None:
    left = {key for key in CATALOGUES["vi"] if key.split(".")[0] not in FAMILIES} - asked()
    assert left == set()


def test_faults_refusals_values_and_times_read_like_sentences() -> None:
    vi, en = load("vi"), load("en")
    values = [{"point": "no2", "title": {"en": "Nitrogen dioxide"}}]
    assert en.fault("bad:no2:timeout", values) == "Nitrogen dioxide is bad: timeout"
    assert en.fault("refused:not_accepted:suspended") == "Message refused: device not accepted (suspended)"
    assert en.fault("never_heard_of") == "never_heard_of"
    assert vi.floor("2") == "Tầng 2"
    assert vi.floor("Tầng lửng") == "Tầng lửng"
    assert vi.value(0.5234) == "0,5234"
    assert vi.value(1013.25) == "1013"
    assert en.value(None) == "–"
    assert vi.value(value=True) == "có"
    assert vi.ms(1.44) == "1,4"
    assert en.clock(1_795_312_800_123.0) == "09:00:00.123"  # 02:00 UTC is 09:00 in Vietnam
    assert en.moment(1_795_312_800_123.0) == "22/11/2026 09:00:00"
