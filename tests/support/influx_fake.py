"""InfluxDB 2.7 and 3 Core as their documentation describes them, for what no server at hand can show.

    async with InfluxFake("2.7.12") as server: ...; server.url, server.buckets["iotcore"].points, server.asked

It keeps points by measurement, tags and time, and the type of every field, so a write that comes twice leaves one point, and a
wrong type is refused as the real one does. `busy` holds answers that it gives first, whatever is posted.

    2.7  POST /api/v2/write       204; 400 the first malformed lines, nothing written; 401 no such token; 403 a token without the
                                  right; 404 no such bucket; 413; 422 partial write, the good lines written
         GET /ping, GET /health, GET /api/v2/orgs, GET|POST|PATCH /api/v2/buckets, GET|POST /api/v2/dbrps
    3    POST /api/v2/write       204; 500 partial write without saying which lines (3.6 and later), the good lines written
         POST /api/v3/write_lp    204; 400 with the number of each wrong line, the good lines written
         GET /ping, GET|POST|PUT /api/v3/configure/database, GET /api/v3/query_sql (retention only)

Sources: docs.influxdata.com/influxdb/v2/api/, /influxdb/v2/write-data/troubleshoot/, /influxdb/v2/query-data/influxql/dbrp/,
/influxdb3/core/api/v3/, /influxdb3/core/write-data/troubleshoot/; for wording and where these are silent the servers' own code:
2.7 http/write_handler.go, models/points.go, tsdb/field_validator.go, authorizer/; 3.10 influxdb3_server/src/http.rs.
"""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import dataclass, field
from hashlib import sha256
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.support.certificates import Pair
from tests.support.influx_points import Conflict, Points, Unparsable

ORG, ORG_ID = "city", "0aa1b2c3d4e5f607"
OPERATOR, WRITER, READER = "operator-token", "writer-token", "reader-token"  # may do all; only write points; not even that
MAX_DATABASES = 5  # of 3 Core
NS_PER_DAY = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Busy:
    """An answer given instead of the real one."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: str = '{"code":"unavailable","message":"busy"}'


class InfluxFake:
    """One server on a free loopback port. `limit`: bytes of a body; `pair`: serve TLS with it; `client_ca`: and ask for one."""

    def __init__(self, version: str, *, limit: int = 50_000_000, pair: Pair | None = None, client_ca: str = "") -> None:
        self.version = version
        self.buckets: dict[str, Points] = {}
        self.days: dict[str, float] = {}  # of retention; 0 for ever
        self.mappings: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str, int]] = []  # method, path, the status it got
        self.busy: list[Busy] = []  # instead of the real answer, to the next posts
        self.url = ""
        self._limit = limit
        self._pair, self._client_ca = pair, client_ca
        self._runner: web.AppRunner | None = None

    @property
    def writes(self) -> int:
        """How many times lines were sent."""
        return sum(path in ("/api/v2/write", "/api/v3/write_lp") for _, path, _ in self.asked)

    def make(self, *names: str) -> Self:
        """Buckets that are there from the beginning, kept for ever."""
        for name in names:
            self.buckets[name], self.days[name] = Points(), 0.0
        return self

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=10**9)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        tls = None
        if self._pair is not None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(self._pair.cert_file, self._pair.key_file)
            if self._client_ca:
                tls.verify_mode = ssl.CERT_REQUIRED
                tls.load_verify_locations(self._client_ca)
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls).start()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        if self.busy and request.method == "POST":
            busy = self.busy.pop(0)
            await request.read()
            response = web.Response(status=busy.status, headers=busy.headers, text=busy.body)
        else:
            response = self._refuse(request) or await self._serve(request)
        prefix = "" if self._is_3 else "v"
        response.headers["X-Influxdb-Version"] = prefix + self.version
        self.asked.append((request.method, request.path, response.status))
        return response

    @property
    def _is_3(self) -> bool:
        return self.version.startswith("3.")

    def _refuse(self, request: web.Request) -> web.Response | None:
        """401 to who is nobody; 2.x lets everybody ping, 3 does not."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        known = scheme in (("Token", "Bearer") if self._is_3 else ("Token",)) and token in (OPERATOR, WRITER, READER)
        if known or (not self._is_3 and request.path in ("/ping", "/health")):
            return None
        if self._is_3 and request.path != "/api/v2/write":
            return web.json_response({"error": "the request was not authenticated"}, status=401)
        return _error(401, "unauthorized", "unauthorized access")

    async def _serve(self, request: web.Request) -> web.Response:
        path = "/api/v2/buckets" if request.path.startswith("/api/v2/buckets/") else request.path
        common = {"/api/v2/write": self._write, "/health": self._health, "/ping": self._ping}
        two = {"/api/v2/orgs": self._orgs, "/api/v2/buckets": self._bucket, "/api/v2/dbrps": self._mapping}
        three = {
            "/api/v3/write_lp": self._write_lp,
            "/api/v3/configure/database": self._database,
            "/api/v3/query_sql": self._retention,
        }
        handler = (common | (three if self._is_3 else two)).get(path)
        return await handler(request) if handler is not None else _error(404, "not found", "path not found")

    async def _ping(self, _: web.Request) -> web.Response:
        if not self._is_3:
            return web.Response(status=204)
        return web.json_response({"version": self.version, "revision": "0", "process_id": "0"})

    async def _health(self, _: web.Request) -> web.Response:
        return web.json_response({"name": "influxdb", "status": "pass", "version": f"v{self.version}"})

    async def _orgs(self, request: web.Request) -> web.Response:
        if request.query.get("org") != ORG:
            return _error(404, "not found", f'organization name "{request.query.get("org")}" not found')
        return web.json_response({"orgs": [{"id": ORG_ID, "name": ORG}]})

    async def _retention(self, request: web.Request) -> web.Response:
        assert "system.databases" in request.query["q"]
        kept = {name: int(days * NS_PER_DAY) or None for name, days in self.days.items()}
        return web.json_response([{"database_name": n, "retention_period_ns": ns} for n, ns in kept.items()])

    async def _write(self, request: web.Request) -> web.Response:
        """POST /api/v2/write."""
        query = request.query
        name = query.get("bucket", "")
        assert query.get("precision") == "ns"
        body = await request.read()
        if _token(request) == READER:
            return _error(403, "forbidden", "access denied" if self._is_3 else "insufficient permissions for write")
        if len(body) > self._limit:
            return _error(413, "request too large", "unable to read data: points batch is too large")
        if self._is_3:
            wrong = self._keep(self._made(name), body)
            return _error(500, "internal error", "partial write of line protocol occurred") if wrong else web.Response(status=204)
        if query.get("org") not in (ORG, ORG_ID):
            return _error(404, "not found", f'organization name "{query.get("org")}" not found')
        if name not in self.buckets:
            return _error(404, "not found", f'bucket "{name}" not found')
        return self._write_2(self.buckets[name], body)

    def _write_2(self, bucket: Points, body: bytes) -> web.Response:
        probe = Points(types=dict(bucket.types))
        failed = [f"unable to parse '{line}': {error}" for _, line, error in _tried(probe, body) if isinstance(error, Unparsable)]
        if failed:
            return _error(400, "invalid", "\n".join(failed))
        conflicts = [error for _, _, error in _tried(bucket, body) if isinstance(error, Conflict)]
        if not conflicts:
            return web.Response(status=204)
        first = conflicts[0]
        reason = (
            f'field type conflict: input field "{first.name}" on measurement "{first.measurement}" is type {first.new}, '
            f"already exists as type {first.old}"
        )
        said = f"failure writing points to database: partial write: {reason} dropped={len(conflicts)}"
        return _error(422, "unprocessable entity", said)

    async def _write_lp(self, request: web.Request) -> web.Response:
        """POST /api/v3/write_lp."""
        assert request.query["precision"] == "nanosecond"
        wrong = self._keep(self._made(request.query["db"]), await request.read())
        if not wrong:
            return web.Response(status=204)
        return web.json_response({"error": "partial write of line protocol occurred", "data": wrong}, status=400)

    def _made(self, name: str) -> Points:
        """A database of InfluxDB 3 comes with its first write."""
        self.days.setdefault(name, 0.0)
        return self.buckets.setdefault(name, Points())

    def _keep(self, bucket: Points, body: bytes) -> list[dict[str, Any]]:
        wrong = []
        for number, line, error in _tried(bucket, body):
            if isinstance(error, Conflict):
                said = f"invalid column type for column '{error.name}', expected {error.old}, got {error.new}"
                wrong.append({"original_line": line[:20], "line_number": number, "error_message": said})
            elif error is not None:
                wrong.append({"original_line": line[:20], "line_number": number, "error_message": str(error)})
        return wrong

    async def _database(self, request: web.Request) -> web.Response:
        """/api/v3/configure/database."""
        if request.method == "GET":
            return web.json_response([{"iox::database": name} for name in ("_internal", *self.buckets)])
        if _token(request) != OPERATOR:
            return web.json_response({"error": "requestor is forbidden from requested resource"}, status=403)
        asked = await request.json()
        name, days = asked["db"], _days(asked.get("retention_period"))
        if request.method == "POST" and name in self.buckets:
            return web.Response(status=409, text="attempted to create a resource that already exists")
        if request.method == "POST" and len(self.buckets) >= MAX_DATABASES:
            return web.json_response(
                {"error": f"Adding a new database would exceed limit of {MAX_DATABASES} databases"}, status=422
            )
        self._made(name)
        self.days[name] = days
        return web.Response(status=200)

    async def _bucket(self, request: web.Request) -> web.Response:
        """/api/v2/buckets."""
        if request.method == "GET":
            first, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", 20))
            return web.json_response({"buckets": [self._shown(name) for name in [*self.buckets][first : first + limit]]})
        if _token(request) != OPERATOR:
            return _error(401, "unauthorized", f"write:orgs/{ORG_ID}/buckets is unauthorized")
        asked = await request.json()
        seconds = sum(rule["everySeconds"] for rule in asked["retentionRules"])
        if request.method == "PATCH":
            name = next(name for name in self.buckets if _id(name) == request.path.rpartition("/")[2])
        else:
            name = asked["name"]
            if name in self.buckets:
                return _error(422, "conflict", f"bucket with name {name} already exists")
            self.buckets[name] = Points()
        self.days[name] = seconds / 86_400
        return web.json_response(self._shown(name), status=200 if request.method == "PATCH" else 201)

    def _shown(self, name: str) -> dict[str, Any]:
        seconds = int(self.days[name] * 86_400)
        rules = [{"type": "expire", "everySeconds": seconds, "shardGroupDurationSeconds": 604_800}] if seconds else []
        return {"id": _id(name), "orgID": ORG_ID, "type": "user", "name": name, "retentionRules": rules}

    async def _mapping(self, request: web.Request) -> web.Response:
        """/api/v2/dbrps; since 2.4 a bucket without a mapping of its own has a virtual one."""
        if request.method == "GET":
            database = request.query["db"]
            found = [one for one in self.mappings if one["database"] == database]
            minor = int(self.version.split(".")[1])
            if not found and database in self.buckets and minor >= 4:
                virtual = {"database": database, "retention_policy": "autogen", "default": True, "virtual": True}
                found = [{"id": _id(database), "bucketID": _id(database), "orgID": ORG_ID, **virtual}]
            return web.json_response({"content": found})
        if _token(request) != OPERATOR:
            return _error(401, "unauthorized", f"write:orgs/{ORG_ID}/dbrp is unauthorized")
        asked = await request.json()
        self.mappings.append({"id": f"{len(self.mappings):016x}", "virtual": False, **asked})
        return web.json_response(self.mappings[-1], status=201)


def _tried(bucket: Points, body: bytes) -> list[tuple[int, str, Exception | None]]:
    """Each line's number, text, and what is wrong with it."""
    result: list[tuple[int, str, Exception | None]] = []
    for number, line in enumerate(body.decode().split("\n"), 1):
        if not line or line.startswith("#"):  # a comment, as all versions skip
            continue
        try:
            bucket.add(line)
        except (Unparsable, Conflict) as error:
            result.append((number, line, error))
        else:
            result.append((number, line, None))
    return result


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"code": code, "message": message}, status=status, headers={"X-Platform-Error-Code": code})


def _token(request: web.Request) -> str:
    return request.headers["Authorization"].partition(" ")[2]


def _id(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:16]


def _days(period: str | None) -> float:
    """humantime: 400d."""
    found = re.fullmatch(r"(\d+)d", period or "0d")
    assert found is not None, json.dumps(period)
    return float(found.group(1))
