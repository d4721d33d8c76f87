"""What the store of the set test holds, read by its own means: InfluxQL, or the tables of telemetry.db."""

from __future__ import annotations

import contextlib

from iotcore.journal.database import connect_readonly
from iotcore.telemetry.line import NS_PER_MS
from tests.campaigns.set_site import Site
from tests.support.set_check import Stored

MEASUREMENT = "traffic_signal"
VALUES = """
SELECT series.device, value.at_ns, max(CASE series.point WHEN 'number' THEN value.value END),
       max(CASE series.point WHEN 'twin' THEN value.value END)
FROM value JOIN series ON series.id = value.series WHERE series.device NOT LIKE '~%' GROUP BY 1, 2
"""  # what begins with ~ is told by the platform itself (telemetry/point.py)


def count(site: Site) -> int:
    """How many points it has."""
    if site.store == "influx1":
        return site.influx.count(MEASUREMENT)
    with contextlib.closing(connect_readonly(site.data / "telemetry.db")) as connection:
        query = "SELECT count(*) FROM value JOIN series ON series.id = value.series WHERE series.point = 'number'"
        return int(connection.execute(query).fetchone()[0])


def points(site: Site) -> list[Stored]:
    """All of them."""
    if site.store == "influx1":
        return [point for name in site.names for point in _influx_points(site, name)]
    with contextlib.closing(connect_readonly(site.data / "telemetry.db")) as connection:
        rows = connection.execute(VALUES).fetchall()
    return [Stored(number, device, at_ns % NS_PER_MS, twin) for device, at_ns, number, twin in rows]


def _influx_points(site: Site, device: str) -> list[Stored]:
    if not site.influx.databases():
        return []
    found = site.influx.query(f"SELECT number, twin FROM {MEASUREMENT} WHERE device = '{device}'")
    return [Stored(number, device, at_ns % NS_PER_MS, twin) for at_ns, number, twin in found[0]["values"]] if found else []
