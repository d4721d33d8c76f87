"""Who we are and whom we trust: TLS, client certificates, tokens, passwords, answers of somebody else, and no secret told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from iotcore.clock import ManualClock
from iotcore.errors import ConfigError, StartError
from iotcore.settings import Settings, Store, check, load
from iotcore.telemetry.influx import Influx1, Influx2
from iotcore.telemetry.influx_setup import prepare
from iotcore.telemetry.store import Later, Written
from tests.support.certificates import ThrowawayAuthority
from tests.support.influx import Influxd
from tests.support.influx_fake import OPERATOR, ORG, READER, Busy, InfluxFake
from tests.support.joined import joined

CLOCK = ManualClock()
LINE = b"air_station,device=a1 pm10=1.0 1795312800000000000"


def two(url: str, token: str = OPERATOR, **more: str) -> Store:
    return Store(kind="influx2", url=url, org=ORG, token=token, **more)  # type: ignore[arg-type] # only its texts


async def test_influxdb_1_over_tls_with_a_user_takes_lines_and_nobody_else_is_let_in(tmp_path: Path) -> None:
    authority = ThrowawayAuthority(tmp_path)
    with Influxd(tmp_path, user="lane", password="pw", authority=authority) as server:
        ours = Store(kind="influx1", url=server.url, username="lane", password="pw", ca_file=str(authority.ca_file))
        async with Influx1(ours, CLOCK) as store:
            assert await store.ensure() is None
            assert await store.write(*joined(LINE)) == Written()
        assert server.count("air_station", "pm10") == 1
        server.query("CREATE USER writer WITH PASSWORD 'w'")
        server.query("GRANT WRITE ON iotcore TO writer")
        least = Store(kind="influx1", url=server.url, username="writer", password="w", ca_file=str(authority.ca_file))
        async with Influx1(least, CLOCK) as store:
            assert await store.ensure() is None, "who may only write still sees that the database is there"
            assert await store.write(*joined(LINE)) == Written()
        steps = await prepare(least)
        assert [step.state for step in steps if step.name == "iotcore_1m"] == ["failed"]
        assert "ALL PRIVILEGES" in next(step.said for step in steps if step.name == "iotcore_1m")
        async with Influx1(Store(kind="influx1", url=server.url, ca_file=str(authority.ca_file)), CLOCK) as store:
            result = await store.write(*joined(LINE))
            assert isinstance(result, Later)
            assert result.reason == "not_authorised"
        async with Influx1(Store(kind="influx1", url=server.url, username="lane", password="pw"), CLOCK) as store:
            result = await store.write(*joined(LINE))
            assert isinstance(result, Later), "a certificate of nobody we know"
            assert result.reason == "untrusted"


@pytest.mark.parametrize("version", ["2.7.12", "3.10.1"])
async def test_the_v2_way_over_tls_shows_its_own_certificate_and_refuses_a_stranger(tmp_path: Path, version: str) -> None:
    authority, other = ThrowawayAuthority(tmp_path / "a"), ThrowawayAuthority(tmp_path / "b")
    mine = authority.issue("telemetry")
    ca_file = str(authority.ca_file)
    async with InfluxFake(version, pair=authority.issue("influx"), client_ca=ca_file).make("iotcore") as server:
        shown = {"ca_file": ca_file, "cert_file": str(mine.cert_file), "key_file": str(mine.key_file)}
        async with Influx2(two(server.url, **shown), CLOCK) as store:
            assert await store.ensure() is None
            assert await store.write(*joined(LINE)) == Written()
        assert server.buckets["iotcore"].count("air_station") == 1
        for settings in (two(server.url, ca_file=ca_file), two(server.url, **{**shown, "ca_file": str(other.ca_file)})):
            async with Influx2(settings, CLOCK) as store:
                result = await store.write(*joined(LINE))
                assert isinstance(result, Later)
                assert result.reason in {"untrusted", "unreachable"}
                assert await store.ensure() is not None


def test_a_tls_file_that_is_none_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for wrong in (tmp_path / "missing.pem", tmp_path / "ca.pem"):
        with pytest.raises(StartError, match=r"store\.ca_file"):
            Influx1(Store(kind="influx1", url="https://localhost", ca_file=str(wrong)), CLOCK)


@pytest.mark.parametrize("version", ["2.7.12", "3.10.1"])
async def test_a_wrong_token_and_one_without_rights_mean_later_and_lose_nothing(version: str) -> None:
    async with InfluxFake(version).make("iotcore") as server:
        for token, said in (("wrong", "unauthorized access"), (READER, "")):
            async with Influx2(two(server.url, token), CLOCK) as store:
                result = await store.write(*joined(LINE, LINE))
            assert isinstance(result, Later)
            assert result.reason == "not_authorised"
            assert said in result.detail
        assert server.writes == 2


async def test_a_bucket_that_is_not_there_means_later_and_is_named() -> None:
    async with InfluxFake("2.7.12") as server, Influx2(two(server.url), CLOCK) as store:
        assert await store.write(*joined(LINE)) == Later("no_database", 'bucket "iotcore" not found')


@pytest.mark.parametrize(
    ("busy", "wanted"),
    [
        (Busy(302, {"Location": "/login"}, ""), "http_302"),
        (Busy(200, {"Content-Type": "text/html"}, "<html>Welcome</html>"), "http_200"),
        (Busy(400, {}, "Bad Request: header too large"), "http_400"),
        (Busy(400, {}, '{"code":"invalid","message":"this service is overloaded, please try again later"}'), "http_400"),
        (Busy(500, {}, '{"code":"internal error","message":"unexpected error writing points to database: timeout"}'), "http_500"),
    ],
    ids=["redirect", "page", "proxy", "overloaded", "timeout"],
)
@pytest.mark.parametrize("kind", [Influx1, Influx2])
async def test_an_answer_that_does_not_speak_of_lines_rejects_none(
    kind: type[Influx1 | Influx2], busy: Busy, wanted: str
) -> None:
    async with InfluxFake("2.7.12").make("iotcore") as server, kind(two(server.url), CLOCK) as store:
        server.busy = [busy] * 100
        result = await store.write(*joined(*(b"m,device=a f=1.0 %d" % n for n in range(500))))
        assert isinstance(result, Later)
        assert result.reason == wanted
        assert server.writes + sum(path == "/write" for _, path, _ in server.asked) <= 30


async def test_a_refusal_that_names_nothing_rejects_a_line_only_beside_others_that_were_taken() -> None:
    unknown = Busy(400, {}, '{"code":"invalid","message":"something new"}')
    async with InfluxFake("2.7.12").make("iotcore") as server, Influx2(two(server.url), CLOCK) as store:
        server.busy = [unknown, unknown]
        result = await store.write(*joined(b"m f=1.0 1", b"m f=1.0 2"))
        assert isinstance(result, Written)
        assert [one.record for one in result.rejected] == [b"m f=1.0 1"]
        server.busy = [unknown]
        assert isinstance(await store.write(*joined(b"m f=1.0 1")), Later)


@asynccontextmanager
async def raw(*, reset: bool) -> AsyncIterator[str]:
    """A server that reads a little and then resets the connection, or says nothing."""
    leave = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        if reset:
            writer.transport.abort()
        else:
            await leave.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        leave.set()
        server.close()


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "silent"])
@pytest.mark.parametrize("kind", [Influx1, Influx2])
async def test_a_connection_that_breaks_within_a_body_or_stays_silent_means_later(
    kind: type[Influx1 | Influx2],
    reset: bool,  # noqa: FBT001
) -> None:
    async with raw(reset=reset) as url, kind(two(url), CLOCK, timeout_s=0.3) as store:
        result = await store.write(*joined(*[b"m f=1.0 1"] * 90_000))
    assert isinstance(result, Later)
    assert result.reason == "unreachable"
    assert result.detail


async def test_a_large_body_goes_in_pieces_of_whole_lines() -> None:
    lines = [b'm,device=a f="%s" %d' % (b"x" * 30_000, n) for n in range(100)]
    async with InfluxFake("2.7.12").make("iotcore") as server, Influx2(two(server.url), CLOCK) as store:
        assert await store.write(*joined(*lines)) == Written()
        assert server.buckets["iotcore"].count("m") == 100
        assert server.writes == 4


async def test_no_secret_is_in_errors_logs_or_what_settings_show(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[object] = []
    async with InfluxFake("2.7.12").make("iotcore") as server:
        for kind, settings in (
            (Influx2, two(server.url, "sesame-token")),
            (Influx1, Store(kind="influx1", url=server.url, username="u", password="sesame-pw")),
            (Influx2, two("http://127.0.0.1:9", "sesame-token")),
        ):
            async with kind(settings, CLOCK) as store:
                said += [await store.write(*joined(LINE)), await store.ensure(), settings, Settings(data="d", store=settings)]
            said += await prepare(settings)
    assert "sesame" not in repr(said) + caplog.text


def test_secrets_come_from_files_and_the_environment_wins(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    text = f'data = "d"\n[store]\nkind = "influx2"\nurl = "http://h"\ntoken_file = "{tmp_path}/token"\n'
    (tmp_path / "iotcore.toml").write_text(text)
    assert load(tmp_path / "iotcore.toml", {}).store.token == "from-file"
    assert load(tmp_path / "iotcore.toml", {"IOTCORE_STORE__TOKEN": "env"}).store.token == "env"
    (tmp_path / "token").unlink()
    with pytest.raises(ConfigError, match=r"store\.token_file"):
        load(tmp_path / "iotcore.toml", {})


@pytest.mark.parametrize(
    ("store", "path"),
    [
        ({"url": "influx:8086"}, "store.url"),
        ({"url": "http://user:pw@influx:8086"}, "store.url"),
        ({"url": "https://h", "key_file": "k.pem"}, "store.cert_file"),
        ({"url": "https://h", "confidential": ["trafic"]}, "store.confidential[0]"),
        ({"url": "https://h", "confidential": ["traffic"], "database_confidential": "iotcore"}, "store.database_confidential"),
        ({"url": "https://h", "retention_days": -1}, "store.retention_days"),
    ],
)
def test_settings_of_a_store_that_cannot_be_meant_are_refused(store: dict[str, object], path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check({"data": "d", "store": {"kind": "influx2", **store}}, "iotcore.toml")
    assert [problem.path for problem in caught.value.problems] == [path]
    assert "pw" not in str(caught.value)
