"""Makers of readings, notices and decisions for tests of the fire lane."""

from __future__ import annotations

from typing import Any

import msgspec

from iotcore.journal.facts import Near, Number, Person
from iotcore.journal.records import Notice, Raise
from iotcore.reading import Quality, Reading, Scalar, Value

NOON_MS = 1_795_312_800_000.0


def reading(device: str = "sd-0001", seq: int = 1, boot: str = "b1", *, test: bool = False, **values: Scalar | None) -> Reading:
    """A live, good reading; a value of None is BAD."""
    return Reading(
        device=device,
        boot=boot,
        seq=seq,
        kind="reading",
        observed_ms=NOON_MS + seq * 1000.0,
        received_ms=NOON_MS + seq * 1000.0 + 5.0,
        told=tuple(
            Value(point, value) if value is not None else Value(point, None, Quality.BAD, "timeout")
            for point, value in values.items()
        ),
        test=test,
    )


def notice(device: str = "sd-0001", premises: str = "p1", rule: str = "smoke", severity: str = "alarm") -> Notice:
    """A notice as the lane makes it: complete but for the incident."""
    return Notice(
        incident="",
        event="alarm",
        hazard="smoke",
        severity=severity,  # type: ignore[arg-type]
        premises=premises,
        premises_name="Chợ Vườn Hoa",
        address="Đường Lê Hoàn, Thanh Hóa",
        latitude=19.807,
        longitude=105.776,
        account="1001",
        zone=f"{premises}-z1",
        zone_number=1,
        zone_name="Gian hàng",
        floor="Tầng 1",
        device=device,
        point="smoke",
        value=0.4,
        unit="dB/m",
        rule=rule,
        reason="above",
        occurred_ms=NOON_MS,
    )


def full_notice(**changes: Any) -> Notice:
    """A notice with everything that responders may be told."""
    known = {
        "incident": "F20261122-020000-3FA9C1",
        "title": "Khói, quầy 12",
        "location": "Trần, trên cửa phòng 101",
        "risk_class": "high",
        "hydrants": "Trụ 12, trước cổng",
        "people": (Person("Bảo vệ", "+842373852222", "trực đêm", keys=True), Person("Ông Hà", "+84913000111")),
        "signals": (Near("sig-1", "Ngã tư Lê Hoàn", 120),),
        "stations": (Near("air-1", "Trạm không khí 1", 800),),
        "numbers": (
            Number("Bảo vệ", "+842373852222", "voice"),
            Number("Ông Hà", "+84913000111", "sms"),
            Number("Ms Lee", "+84913000222", "voice", "en"),
        ),
        "decided_ms": NOON_MS + 6.0,
    }
    return msgspec.structs.replace(notice(), **{**known, **changes})


def raise_(seq: int = 1, boot: str = "b1", *, of: Notice | None = None, test: bool = False, historical: bool = False) -> Raise:
    """A decision ready for the journal."""
    return Raise(boot, seq, of or notice(), NOON_MS, NOON_MS + 5.0, NOON_MS + 6.0, test=test, historical=historical)
