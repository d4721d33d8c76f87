"""Rule documents: their names, the book that they make with the shipped rules, and all that is checked before one is saved."""

from __future__ import annotations

from typing import Any

import pytest

from iotcore.alarms import rule_book, rule_saving
from iotcore.alarms.rule_book import Kept, book, key_of, read
from iotcore.alarms.rule_saving import Known
from iotcore.errors import ConfigError
from iotcore.registry import audit
from iotcore.registry.directory import Binding, Directory, Premises
from tests.support.ruling import BASE, advisory, level
from tests.support.shipped import SPECS

DIRECTORY = Directory(
    {name: Binding(name, name, SPECS[model], "fire", name, "active", "p1") for name, model in
     (("d1", "iotcore-smoke-heat"), ("cp-1", "iotcore-call-point"))},
    {"p1": Premises("p1", "Chợ", "1 Lê Lợi", 19.8, 105.7, "1001")},
)  # fmt: skip


def known(*documents: dict[str, Any]) -> Known:
    kept = [Kept(key_of(rule), rule, "document", 1) for rule in (read(one, "test") for one in documents)]
    return Known(SPECS, DIRECTORY, {"hotels"}, BASE, book(BASE, kept))


def problems(*documents: Any, beside: Known | None = None) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        rule_saving.check([(f"file.yaml[{n}]", one) for n, one in enumerate(documents)], beside or known())
    return [str(problem) for problem in refused.value.problems]


def test_every_shipped_rule_is_the_document_that_makes_it_again() -> None:
    for rule in BASE:
        document = rule_book.plain(rule)
        assert read(document, "again") == rule
        assert next(iter(document)) == "id"
    assert len(book(BASE, ())) == len(BASE)


def test_a_key_names_the_rule_and_what_it_is_for() -> None:
    assert key_of(read(level(), "x")) == "smoke-level"
    assert key_of(read(level(device_classes=["fire_panel", "fire_detector"]), "x")) == "smoke-level"
    assert key_of(read(level(models=["b", "a", "a"]), "x")) == "smoke-level@models:a+b"
    many = key_of(read(level(models=[f"model-{n}" for n in range(100)]), "x"))
    assert len(many) < 64
    assert many == key_of(read(level(models=[f"model-{n}" for n in reversed(range(100))]), "x"))


def test_a_document_stands_in_the_place_of_the_rule_that_it_replaces() -> None:
    found = known(level(0.31), advisory("early")).in_use
    assert list(found) == [*(key_of(rule) for rule in BASE), "early"]
    assert found["smoke-level"].rule.when.above == 0.31  # type: ignore[union-attr]
    assert (found["smoke-level"].origin, found["smoke-rise"].origin) == ("document", "base")


def test_everything_that_is_wrong_is_said_at_once_with_file_and_path() -> None:
    said = problems(
        level(above="much", extra=1, id="Nope"),
        level(models=["iotcore-smoke-hea", "vaisala-aqt530"]),
        advisory("elsewhere", when={"kind": "threshold", "point": "smok", "unit": "dB/m", "above": 1}),
        advisory("unit", when={"kind": "threshold", "point": "smoke", "unit": "%", "above": 1, "clear": 2}),
        advisory("unit-2", when={"kind": "threshold", "point": "smoke", "unit": "%", "above": 1}),
        advisory("panels", when={"kind": "each", "points": "*_firs"}),
        "a text",
    )
    known_keys = said[0].rpartition(": ")[2]
    assert said == [
        f"file.yaml[0]: extra: unknown key; known are: {known_keys}",
        "file.yaml[0]: id: Expected `str` matching regex '^[a-z][a-z0-9-]{0,39}$'",
        "file.yaml[0]: when.above: Expected `float | null`, got `str`",
        "file.yaml[1]: models: there is no spec of a model 'iotcore-smoke-hea'; did you mean iotcore-smoke-heat?",
        "file.yaml[1]: models: vaisala-aqt530 is of class air_station, which device_classes leaves out",
        "file.yaml[2]: when: no covered model has a point 'smok'",
        "file.yaml[3]: when.clear: must not be above the threshold",
        "file.yaml[4]: unit-2.smoke: is judged in '%', the point is in 'dB/m' in spec iotcore-smoke-heat",
        "file.yaml[5]: when.points: no covered model has a two-valued point like '*_firs'",
        "file.yaml[6]: expected a table, got str",
    ]


def test_two_of_one_name_in_a_file_are_refused() -> None:
    assert problems(level(0.3), level(0.4)) == ["file.yaml[1]: id: the rule smoke-level stands twice"]


def test_two_that_claim_the_same_devices_by_equal_right_are_refused() -> None:
    (said,) = problems(level(device_classes=["fire_detector"]))
    assert said.startswith("smoke-level@classes:fire_detector: claims the same devices as smoke-level by equal right")
    model = "iotcore-smoke-heat"
    there = known(level(models=[model]))
    (said,) = problems(level(models=[model, "milesight-gs524n"], when={"kind": "state", "point": "alarm"}), beside=there)
    assert f"as smoke-level@models:{model} by equal right" in said
    assert rule_saving.check([("x", level(models=[model]))], known()).keys() == {f"smoke-level@models:{model}"}


def test_there_are_only_so_many_rules_and_conditions() -> None:
    many = [advisory(f"a{n}") for n in range(rule_saving.MAX_RULES)]
    (said,) = problems(*many)
    assert said == f"rules: there would be {rule_saving.MAX_RULES + len(BASE)}, and 10000 are the most"
    part = {"kind": "state", "point": "alarm"}
    wide = [advisory(f"w{n}", when={"kind": "any", "of": [part] * 20}) for n in range(5_001)]
    assert problems(*wide)[0].startswith("rules: they would have 100")


def test_hours_are_a_part_of_what_a_rule_is_for() -> None:
    night = level(0.4, schedule={"named": "night"})
    shift = level(0.4, schedule={"hours": [{"from": "08:00", "to": "17:00"}], "holidays": ["2027-01-01"]})
    found = rule_saving.check([("a", night), ("b", shift)], known())
    assert next(iter(found)) == "smoke-level@hours:night"
    for document, checked in zip((night, shift), found.values(), strict=True):
        assert rule_book.plain(checked.rule) == rule_book.written(document)
        assert rule_book.stored(checked.key, audit.canonical(checked.body)) == checked.rule


def test_conditions_over_several_points_and_devices_must_find_some() -> None:
    total = {"kind": "sum", "points": ["smok*"], "unit": "dB/m", "above": 1}
    each = {"kind": "coincidence", "of": {"kind": "each", "points": "*_fire"}}
    rule_saving.check([("a", advisory("a", when=total)), ("b", advisory("b", when=each))], known())
    assert problems(advisory("a", when={**total, "points": ["smog*"]})) == [
        "file.yaml[0]: when: no covered model has a number like smog*"
    ]
    nowhere = {"kind": "coincidence", "of": {"kind": "each", "points": "*_firs"}}
    assert "two-valued point like '*_firs'" in problems(advisory("b", when=nowhere))[0]
    lasting = {"kind": "sustained", "for_s": 30, "of": {"kind": "state", "point": "alarn"}}
    assert "no covered model has a point 'alarn'" in problems(advisory("c", when=lasting))[0]


def test_what_may_lower_protection_is_told_apart() -> None:
    one = known(level(0.3), advisory("early"))

    def weakens(key: str, body: dict[str, Any] | None) -> list[str]:
        return rule_saving.weakens({key: None if body is None else read(body, "x")}, one)

    assert weakens("smoke-level", level(0.4)) == ["smoke-level"]
    assert weakens("smoke-level", {**level(0.3), "severity": "advisory"}) == ["smoke-level"]
    assert weakens("smoke-level", level(0.3)) == []  # as it is
    assert weakens("smoke-level@models:iotcore-smoke-heat", level(0.9, models=["iotcore-smoke-heat"]))
    assert weakens("early", advisory("early", 0.2)) == []
    assert weakens("new", advisory("new")) == []
    assert weakens("early", None) == ["early"]


def test_only_a_document_can_be_removed() -> None:
    one = known(advisory("early"))
    assert rule_saving.removable("early", one) == []
    assert "did you mean early" in str(rule_saving.removable("earl", one)[0])
    assert "save a version of it in its place" in str(rule_saving.removable("manual-call", one)[0])
