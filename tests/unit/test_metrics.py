"""Metrics: names by one convention, all of them documented, none with a label that grows with the city."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from prometheus_client.registry import CollectorRegistry

from iotcore import metrics, metrics_page
from iotcore.process.metrics_http import OFFSETS

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
LABELS = {"lane", "broker", "client", "store", "table", "reason", "outcome", "status", "process", "what", "receiver"}
NAME = re.compile(
    r"iotcore_(lane|mqtt|fire|dispatch|spool|store|feed|modbus|outbox|rollup|web|enrolment|keeper|broker|process|audit)_[a-z_]+"
)
GAUGES_WITHOUT_UNIT = {  # how many of something there are now
    "iotcore_lane_inbox_waiting", "iotcore_mqtt_connected", "iotcore_spool_batches", "iotcore_modbus_units_failing",
    "iotcore_outbox_kept", "iotcore_keeper_overdue_notices", "iotcore_keeper_device_certificates",
    "iotcore_broker_cloned_identities", "iotcore_broker_refusal_burst", "iotcore_broker_clients_connected",
    "iotcore_audit_changed", "iotcore_dispatch_path_up", "iotcore_fire_journal_stalled", "iotcore_fire_disablements",
    "iotcore_fire_drills_missed",
    "iotcore_fire_walk_tests", "iotcore_fire_flapping_alarms", "iotcore_keeper_standing_still",
    "iotcore_fire_silent_devices", "iotcore_fire_weakly_supervised_devices",
    "iotcore_enrolment_refused_lately", "iotcore_enrolment_burst", "iotcore_enrolment_queue",
}  # fmt: skip


def test_the_page_of_metrics_is_current_and_has_everything_that_is_registered() -> None:
    assert PAGE.read_text(encoding="utf-8") == metrics_page.page(), "run: python -m iotcore.metrics_page > docs/metrics.md"
    documented = {row.name for row in metrics_page.rows()}
    registered = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in REGISTRY.collect()
        if family.name.startswith("iotcore_")
    }
    assert registered == documented


@pytest.mark.parametrize("row", list(metrics_page.rows()), ids=lambda row: row.name)
def test_a_name_says_its_part_and_its_unit_and_its_labels_are_few(row: metrics_page.Row) -> None:
    assert NAME.fullmatch(row.name)
    assert row.words
    assert set(row.labels) <= LABELS
    if row.kind == "counter":
        assert row.name.endswith("_total")
    elif row.kind == "histogram":
        assert row.name.endswith("_seconds")
    else:
        assert row.name.endswith(("_seconds", "_bytes")) or row.name in GAUGES_WITHOUT_UNIT


def test_no_two_processes_share_a_port_but_those_that_have_two_names() -> None:
    ports = [offset for name, offset in OFFSETS.items() if name not in {"telemetry", "fire"}]
    assert len(set(ports)) == len(ports)
    assert (OFFSETS["telemetry"], OFFSETS["fire"]) == (OFFSETS["telemetry-1"], OFFSETS["fire-1"])


def test_what_is_asked_at_a_scrape_is_what_its_source_says_then() -> None:
    told = iter((1.0, 2.0))
    registry = CollectorRegistry()
    asked = metrics.Asked("iotcore_x_total", "x", ["lane"], registry)
    asked.ask(lambda: next(told), "fire")
    for value in (1.0, 2.0):
        (family,) = registry.collect()
        assert [(one.name, one.labels, one.value) for one in family.samples] == [("iotcore_x_total", {"lane": "fire"}, value)]
