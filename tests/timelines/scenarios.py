"""The scenarios that every release must pass, and all their timelines."""

from __future__ import annotations

from tests.timelines.notation import Row
from tests.timelines.rows_alarms import ROWS as ALARMS
from tests.timelines.rows_console import ROWS as CONSOLE
from tests.timelines.rows_modbus import ROWS as MODBUS
from tests.timelines.rows_real import ROWS as SERVICES
from tests.timelines.rows_ways import ROWS as WAYS

SCENARIOS = {
    1: (
        "One smoke alarm, immediate, under full telemetry load: the incident is durable, sent at once, and acknowledged "
        "by the receiver."
    ),
    2: "A manual call point during a delay stage is dispatched immediately.",
    3: "Smoke for 20 s and then none, with verification: no dispatch, on record. Seen again within 60 s: fire.",
    4: "Coincidence: one detector is a first alarm, two are a fire, none in the window: cancelled, on record.",
    5: "10 °C a minute from 25 °C: the rate of rise fires before 54 °C. 1 °C a minute: the static threshold alone.",
    6: "A smoulder of hours is not masked.",
    7: (
        "Fire and fault together: fire first, fault kept. Fire on a disabled or test point: no dispatch, shown, on "
        "record; when the disablement is over, a point that is still active is judged again."
    ),
    8: "A Notifier panel's word: 0810h is fire, 2000h trouble, 4000h pre-alarm, a low byte of FFh a missing point.",
    9: (
        "Modbus timeout, CRC error, wrong word order, stale life check: a fault in time, and the last state is never "
        "shown as healthy."
    ),
    10: (
        "A retained fire after a broker's restart: at most one incident. QoS 1 duplicates: one. A clear that overtakes "
        "its alarm: by source time the fire is not lost. A last will: trouble."
    ),
    11: "kill -9 between persist and send, and between send and ACK: delivered, the same incident, one.",
    12: (
        "A receiver answers ACK, NAK with its time, DUH, nothing, a bad CRC, another number: retry, resynchronise, "
        "other path, escalate. Only a valid, matching ACK completes."
    ),
    13: "The primary path is a black hole: the alternate succeeds, and the fault is shown within 90 s. Both down: loud.",
    14: "A heartbeat is lost: trouble at its limit, also across a restart.",
    15: "Storm: 10,000 points in 200 buildings. Every building's first alarm goes out, and the console stays usable.",
    16: "The clock is set by an hour: durations stay monotonic.",
    17: "A broken or edited rule is refused and flagged, and the previous version goes on judging.",
    18: "Nobody acknowledges in 30 s: escalation, on record; one acknowledgement stops it on every channel.",
    19: "Acknowledge, reset or disable without the right, or in a foreign area: denied, and audited.",
    20: (
        "Late data: smoke of less than 15 min that still burns is dispatched as delayed, older is a record; a wrong "
        "clock is never late."
    ),
    21: (
        "The journal's disk is full, or PostgreSQL is gone: the fire goes out from the emergency log, and is taken over "
        "later, once."
    ),
    22: "A replica stands still for five minutes across a reset, then catches up: no second incident.",
}
VIRTUAL: tuple[Row, ...] = (*ALARMS, *WAYS)
REAL: tuple[Row, ...] = (*MODBUS, *SERVICES, *CONSOLE)
