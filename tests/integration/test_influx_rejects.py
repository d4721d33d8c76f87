"""Wrong lines among good ones: InfluxDB 1.6.7 itself, 2.7 and 3 as documented; the same tests, so that the fake is held true."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from iotcore.clock import ManualClock
from iotcore.reading import Reading, Value
from iotcore.registry.directory import Binding
from iotcore.settings import Store
from iotcore.telemetry.influx import Influx1, Influx2
from iotcore.telemetry.store import Written
from tests.support.influx import Influxd
from tests.support.influx_fake import OPERATOR, ORG, InfluxFake
from tests.support.joined import joined
from tests.support.shipped import SPECS

CLOCK = ManualClock()
AIR = Binding("a1", "", SPECS["vaisala-aqt530"], "air", "gw", "active", premises="Trạm 1, Hàm Rồng")
SIGNAL = Binding("s1", "", SPECS["iotcore-mqtt-signal"], "traffic", "s1", "active")
START_NS = 1_795_312_800_000_000_000
BATCH = 5_000
Rows = dict[tuple[str, int], dict[str, object]]  # (device, time) → the fields that it has


@dataclass(frozen=True)
class Target:
    """A store and what its server says it holds."""

    store: Influx1 | Influx2
    version: str
    count: Callable[[str], int]
    writes: Callable[[], int]
    rows: Callable[[str], Rows]


@pytest.fixture(scope="module")
def influxd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influxd]:
    with Influxd(tmp_path_factory.mktemp("influx")) as server:
        yield server


@pytest.fixture(params=["1.6.7", "2.7.12", "3.10.1"])
async def target(request: pytest.FixtureRequest) -> AsyncIterator[Target]:
    version: str = request.param
    async with AsyncExitStack() as stack:
        if version == "1.6.7":
            server: Influxd = request.getfixturevalue("influxd")
            server.query('DROP DATABASE "iotcore"')
            one = await stack.enter_async_context(Influx1(Store(kind="influx1", url=server.url), CLOCK))
            assert await one.ensure() is None
            yield Target(one, version, server.count, server.writes, lambda name: _rows_of(server, name))
        else:
            fake = await stack.enter_async_context(InfluxFake(version).make("iotcore"))
            settings = Store(kind="influx2", url=fake.url, org=ORG, token=OPERATOR)
            two = await stack.enter_async_context(Influx2(settings, CLOCK))
            bucket = fake.buckets["iotcore"]

            def rows(name: str) -> Rows:
                return {(dict(tags)["device"], at): dict(fields) for (m, tags, at), fields in bucket.points.items() if m == name}

            yield Target(two, version, bucket.count, lambda: fake.writes, rows)


def _rows_of(server: Influxd, measurement: str) -> Rows:
    """What 1.6.7 answers to a query, in the same shape."""
    result: Rows = {}
    for series in server.query(f'SELECT * FROM "{measurement}" GROUP BY device'):
        for values in series["values"]:
            row = dict(zip(series["columns"], values, strict=True))
            at = row.pop("time")
            result[series["tags"]["device"], at] = {
                k: v for k, v in row.items() if v is not None and k not in ("model", "premises")
            }
    return result


def air(n: int, value: str = "12.5", field: str = "pm10") -> bytes:
    return b"air_station,device=a%d %s=%s,quality=0i %d" % (n % 50, field.encode(), value.encode(), START_NS + n)


async def test_writing_again_leaves_one_point_each(target: Target) -> None:
    lines = [air(n) for n in range(100)]
    for body in (lines, lines[50:], lines):
        assert await target.store.write(*joined(*body)) == Written()
    assert target.count("air_station") == 100


async def test_a_whole_number_is_a_float_and_text_and_tags_come_back_as_they_were(target: Target) -> None:
    texts = ['say "no"', "back\\slash", "a,b=c d", "Đèn đỏ ⛔", "ends\\"]
    readings = [Reading("s1", "b", n, "reading", 1_000.0, 1_000.0, (Value("mode", text),)) for n, text in enumerate(texts)]
    whole = Reading("a1", "b", 7, "reading", 2_000.0, 2_000.0, (Value("pm10", 12), Value("no2", 0.5)))
    lines = [*(target.store.record(one, SIGNAL) for one in readings), target.store.record(whole, AIR)]
    assert await target.store.write(*joined(*lines)) == Written()
    later = Reading("a1", "b", 8, "reading", 2_000.0, 2_000.0, (Value("pm10", 12.5),))
    assert await target.store.write(*joined(target.store.record(later, AIR))) == Written()
    assert [fields["mode"] for _, fields in sorted(target.rows("traffic_signal").items())] == texts
    assert target.rows("air_station")["a1", 2_000_000_007] == {"pm10": 12.0, "no2": 0.5, "quality": 0}


@pytest.mark.parametrize(
    ("poison", "most"),
    [(b'air_station,device=a7 pm10="high" %d' % START_NS, 4), (b"this is no line", 3), (air(9, "1i"), 4), (air(9, "true"), 4)],
    ids=["text", "garbage", "integer", "boolean"],
)
async def test_one_wrong_line_of_5000_is_found_in_a_few_requests_and_the_others_are_stored(
    target: Target, poison: bytes, most: int
) -> None:
    assert await target.store.write(*joined(air(0))) == Written()
    lines = [air(n) for n in range(BATCH)]
    lines[3217] = poison
    before = target.writes()
    result = await target.store.write(*joined(*lines))
    assert isinstance(result, Written)
    assert [one.record for one in result.rejected] == [poison]
    assert target.writes() - before <= most + (target.version == "3.10.1")  # its v2 way names none, so it is asked twice
    assert target.count("air_station") == BATCH - 1


async def test_a_type_that_is_wrong_for_a_third_of_all_lines_costs_no_more_requests_than_one(target: Target) -> None:
    """Somebody wrote a field by hand before us: from then on every line that has it is wrong, in every batch."""
    assert await target.store.write(*joined(air(0, '"by hand"', "co2"))) == Written()
    lines = [air(n, field="co2" if n % 3 == 0 else "pm10") for n in range(1, BATCH + 1)]
    before = target.writes()
    result = await target.store.write(*joined(*lines))
    assert isinstance(result, Written)
    assert {one.record for one in result.rejected} == {line for line in lines if b"co2=" in line}
    assert all("co2" in one.detail for one in result.rejected)
    assert target.writes() - before <= 4
    assert target.count("air_station") == 1 + sum(b"pm10" in line for line in lines)


async def test_a_conflict_that_appears_later_hurts_only_the_lines_that_have_it(target: Target) -> None:
    assert await target.store.write(*joined(*(air(n) for n in range(10)))) == Written()
    result = await target.store.write(*joined(air(10), air(11, "3i"), air(12, "1.0", "no2"), air(13)))
    assert isinstance(result, Written)
    assert [one.record for one in result.rejected] == [air(11, "3i")]
    assert await target.store.write(*joined(air(14))) == Written()
    assert target.count("air_station") == 14


async def test_wrong_lines_of_every_kind_at_once_are_all_found_and_no_other(target: Target) -> None:
    assert await target.store.write(*joined(air(0), b'traffic_signal,device=s mode="auto" 1')) == Written()
    lines = [air(n) for n in range(300)]
    wrong = {
        10: b"traffic_signal,device=s mode=1.0 2",
        11: b"traffic_signal,device=s mode=2i 3",
        77: b"no line: 'at all': ",
        78: air(78, "t"),
        299: b"air_station,device=a1 pm10= 5",
    }
    for index, line in wrong.items():
        lines[index] = line
    result = await target.store.write(*joined(*lines))
    assert isinstance(result, Written)
    assert {one.record for one in result.rejected} == set(wrong.values())
    assert len(result.rejected) == len(wrong)
    assert target.count("air_station") == 300 - len(wrong)


async def test_a_fault_that_the_server_does_not_name_is_found_by_halves() -> None:
    async with InfluxFake("2.7.12", limit=3_000).make("iotcore") as fake:
        async with Influx2(Store(kind="influx2", url=fake.url, org=ORG, token=OPERATOR), CLOCK) as store:
            long = b'traffic_signal,device=s mode="%s" 1' % (b"x" * 4_000)
            lines = [air(n) for n in range(32)]
            result = await store.write(*joined(*lines[:20], long, *lines[20:]))
        assert isinstance(result, Written)
        assert [one.record for one in result.rejected] == [long]
        assert "too large" in result.rejected[0].detail
        assert fake.writes <= 2 * math.ceil(math.log2(33)) + 1
        assert fake.buckets["iotcore"].count("air_station") == 32


@pytest.mark.parametrize(
    ("line", "taken"),
    [
        (b'm,device=a\\ b\\,c\\=d f="x" 1', True),
        (b"m,device=a f=1e3 1", True),
        (b"m,device=a f=1E-3,g=-2i 1", True),
        (b"m,device=a f=T,g=false 1", True),
        (b'm,device=a f="a\\"b\\\\c" 1', True),
        ('m,device=số\\ 8 f="Đèn đỏ" 1'.encode(), True),
        (b"m,device=a 1", False),
        (b"m,device=a f= 1", False),
        (b"m,device= f=1.0 1", False),
        (b"m,device=a f=nan 1", False),
        (b'm,device=a f="open 1', False),
        (b"m,device=a f=1.0 then", False),
        (b",device=a f=1.0 1", False),
    ],
)
async def test_the_fake_takes_and_keeps_what_the_real_server_does(influxd: Influxd, line: bytes, taken: bool) -> None:  # noqa: FBT001
    influxd.query('DROP DATABASE "iotcore"')
    async with (
        InfluxFake("2.7.12").make("iotcore") as fake,
        Influx1(Store(kind="influx1", url=influxd.url), CLOCK) as one,
        Influx2(Store(kind="influx2", url=fake.url, org=ORG, token=OPERATOR), CLOCK) as two,
    ):
        assert await one.ensure() is None
        results = [await store.write(*joined(line)) for store in (one, two)]
    assert [isinstance(each, Written) and not each.rejected for each in results] == [taken, taken], results
    points = fake.buckets["iotcore"].points
    kept = {(dict(tags)["device"], at): fields for (_, tags, at), fields in points.items()}
    assert kept == _rows_of(influxd, "m")
