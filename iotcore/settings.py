"""Settings: frozen, from one TOML file plus environment, checked once and refused whole.

`IOTCORE_<SECTION>__<KEY>` overrides a key (`IOTCORE_STORE__PASSWORD`, `IOTCORE_WEB__PORT`), so that secrets stay out of files;
`IOTCORE_RECEIVERS__<NAME>__<KEY>` is a key of the receiver of that name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from iotcore import settings_receivers as receivers
from iotcore.errors import ConfigError, Problem
from iotcore.settings_deadman import Deadman
from iotcore.settings_receivers import Port, Receiver
from iotcore.strict import convert

Domain = Literal["fire", "air", "water", "traffic", "gateway"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)
MAX_WORKERS = 4  # telemetry workers, fire replicas: as many as have a line in the brokers' access table (acl.REPLICAS)
ENV_PREFIX = "IOTCORE_"


class Broker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the two brokers. `run` says who runs it: us (mosquitto or amqtt as a child), or somebody else (external)."""

    port: Port
    host: str = "127.0.0.1"  # where our own services meet it; its certificate carries this name
    listen: str = ""  # the address that it listens on, when we run it; "" means `host`
    names: list[str] = []  # further names and addresses that devices know it by, for its certificate
    run: Literal["auto", "mosquitto", "amqtt", "external"] = "auto"
    password_port: Annotated[int, Meta(ge=0, le=65_535)] = 0  # a TLS listener for vendors' devices with a password only; 0: none

    @property
    def address(self) -> str:
        """Where a broker that we run listens."""
        return self.listen or self.host


class Brokers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two brokers, two trust anchors: a flood on the field broker cannot delay a fire."""

    fire: Broker = Broker(port=8883)
    field: Broker = Broker(port=8884)


Days = Annotated[int, Meta(ge=0, le=36_500)]
# Domains (wire/topics.py) and device classes (specs/model.py); a test holds them together. A typing error here would publish.
Confidential = Literal[
    "fire", "air", "water", "traffic", "gateway", "fire_detector", "fire_panel", "air_station", "water_station", "traffic_signal"
]


class Store(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where telemetry ends: `embedded` SQLite, `influx1` (v1 /write) or `influx2` (v2 API, also InfluxDB 3)."""

    kind: Literal["embedded", "influx1", "influx2"] = "embedded"
    url: str = ""
    database: str = "iotcore"  # influx1: database; influx2: bucket; means are kept in <database>_1m and <database>_1h
    database_confidential: str = "iotcore_confidential"
    confidential: list[Confidential] = []
    org: str = ""
    token: str = ""
    token_file: str = ""
    username: str = ""
    password: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    retention_days: Days = 400
    retention_1m_days: Days = 1_830
    retention_1h_days: Days = 0

    def __repr__(self) -> str:
        """Without its secrets: settings end up in logs and tracebacks."""
        return f"Store(kind={self.kind!r}, url={self.url!r}, database={self.database!r}, …)"


class Spool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The disk buffer between acknowledgement and the store; the oldest goes first when it is full, and is counted."""

    max_bytes: Annotated[int, Meta(ge=1_000_000)] = 2_000_000_000
    max_age_s: Annotated[int, Meta(ge=60)] = 14 * 86_400


class Telemetry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A telemetry worker. Several share the work by whole domains; each domain belongs to exactly one of them."""

    domains: list[Domain] = msgspec.field(default_factory=lambda: list(DOMAINS))


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Prometheus metrics, at `/metrics` of every process, each on a port of its own (operations.md, "Logs and figures")."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_520)] = 9480  # the fire process's; the others follow it; 0 means none


class Registry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tortoise database URL: "" means sqlite in the data folder; postgres://… for a city."""

    url: str = ""


class Journal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where alarms, incidents and the outbox are kept: "" means `journal.db` in the data folder; postgres://… for replicas."""

    url: str = ""

    def __repr__(self) -> str:
        """Without its password: settings end up in logs and tracebacks."""
        return f"Journal(on={'postgres' if self.url else 'a file'})"


class Audit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the signed heads of the audit chain are exported to (docs/audit.md)."""

    folder: str = ""


class Backup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Backups (docs/backup.md)."""

    max_age_days: Annotated[float, Meta(ge=0, le=3_650)] = 7.0


class Coverage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a key site counts as covered, and by when all of them should be (docs/coverage.md)."""

    tested_within_days: Annotated[int, Meta(ge=1, le=3_660)] = 365
    goal_year: Annotated[int, Meta(ge=2_000, le=2_200)] = 2_030


class Web(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The page and the enrolment (EST, TLS) listener. They listen on loopback until told otherwise."""

    host: str = "127.0.0.1"
    port: Port = 8080
    names: list[str] = []  # host names it answers to besides loopback, as a proxy or a public address shows them
    est_host: str = "127.0.0.1"
    est_port: Port = 8443
    crl_port: Annotated[int, Meta(ge=0, le=65_535)] = 0  # plain HTTP on est_host, for revocation lists and OCSP; 0: neither
    approval: bool = False  # a person approves every enrolment by token or secret: `iotcore enrolment list`
    est_names: list[str] = msgspec.field(default_factory=lambda: ["localhost", "127.0.0.1"])
    language: Literal["vi", "en"] = "vi"
    public_url: Annotated[str, Meta(pattern=r"^(https?://[^\s/?#]+(/[^\s?#]*)?)?$")] = ""  # as people reach it: on labels


class Fire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fire lane (docs/fire-lane.md), and the alternate path of fire devices: HTTPS with their certificates."""

    replicas: Annotated[int, Meta(ge=1, le=MAX_WORKERS)] = 1
    emergency_folder: str = ""
    https_port: Annotated[int, Meta(ge=0, le=65_535)] = 0  # 0: there is none
    https_host: str = "127.0.0.1"
    https_names: Annotated[list[str], Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["localhost", "127.0.0.1"])
    expired: Literal["alarms", "refuse"] = "alarms"


class OidcRole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a group of the OpenID provider is here: a role, everywhere ("") or in an area."""

    group: str
    role: Literal["admin", "technician", "dispatcher", "viewer", "auditor"]
    area: str = ""


class Oidc(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signing in with an OpenID provider, beside or instead of passwords; "" means without (docs/people.md)."""

    issuer: str = ""
    client_id: str = ""
    client_secret: str = ""
    title: str = "OpenID"
    scopes: str = "openid profile"
    name_claim: str = "preferred_username"
    groups_claim: str = "groups"
    ca_file: str = ""
    auto_create: bool = False
    roles: list[OidcRole] = []

    def __repr__(self) -> str:
        """Without its secret."""
        return f"Oidc(issuer={self.issuer!r}, client_id={self.client_id!r}, …)"


class People(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Users, sessions, and what takes two persons (docs/people.md)."""

    two_person: bool = True
    passwords: bool = True
    session_idle_s: Annotated[int, Meta(ge=300, le=604_800)] = 8 * 3_600
    session_s: Annotated[int, Meta(ge=300, le=2_592_000)] = 7 * 86_400
    operators: dict[str, str] = {}


class Outbox(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a gateway keeps until the core has it. Beyond a limit the oldest goes, and is counted; no fire for the rest."""

    max_bytes: Annotated[int, Meta(ge=1_000_000)] = 200_000_000
    fire_max_bytes: Annotated[int, Meta(ge=1_000_000)] = 50_000_000
    max_age_s: Annotated[int, Meta(ge=3_600)] = 30 * 86_400


class Gateway(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A gateway at a site, away from the core: `iotcore run modbus` there has no registry and no authority, and enrols itself."""

    id: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
    units: str
    est_url: Annotated[str, Meta(pattern=r"^https://[^\s/?#]+/?$")]
    trust: str
    fire_token: str = ""
    field_token: str = ""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a process of the platform needs to be told."""

    data: str
    cell: Annotated[str, Meta(pattern="^[a-z0-9-]{0,32}$")] = ""  # where several cells write to one store: which this is
    specs: str = ""  # folder of device specs; "" means those shipped with iotcore
    rules: str = ""  # fire rules file; "" means the shipped defaults
    brokers: Brokers = Brokers()
    store: Store = Store()
    spool: Spool = Spool()
    telemetry: list[Telemetry] = msgspec.field(default_factory=lambda: [Telemetry()])
    metrics: Metrics = Metrics()
    registry: Registry = Registry()
    journal: Journal = Journal()
    audit: Audit = Audit()
    backup: Backup = Backup()
    coverage: Coverage = Coverage()
    fire: Fire = Fire()
    web: Web = Web()
    people: People = People()
    oidc: Oidc = Oidc()
    receivers: list[Receiver] = []
    deadman: Deadman = Deadman()
    outbox: Outbox = Outbox()
    gateway: Gateway | None = None
    modbus_gateway: str = "modbus-1"  # the gateway device that the central Modbus driver publishes as
    modbus_allow: str = ""  # allow-list of Modbus writes (docs/technician.md); "" means that nothing is ever written
    modbus_interval_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0  # poll every unit this often; 0: as its spec says

    throttle_times: Annotated[float, Meta(ge=0)] = 10.0  # a device above so many times its spec's rate is throttled; 0: never

    @property
    def folder(self) -> Path:
        """The data folder: databases, certificates, broker configuration, emergency log."""
        return Path(self.data)

    @property
    def heads_folder(self) -> Path:
        """Where the signed heads of the audit chain go."""
        return Path(self.audit.folder) if self.audit.folder else self.folder / "audit" / "heads"

    @property
    def registry_url(self) -> str:
        """The tortoise URL of the registry."""
        return self.registry.url or f"sqlite://{self.folder / 'registry.db'}"

    @property
    def journal_place(self) -> Path | str:
        """The journal: a file, or the URL of a database."""
        return self.journal.url or self.folder / "journal.db"


def load(path: Path, environment: Mapping[str, str]) -> Settings:
    """Read, override and check the settings file.

    Raises:
        ConfigError: with every problem of the file.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error.strerror}; pass --config FILE")]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(str(path), "", f"is not TOML: {error}")]) from error
    return check(_with_secrets(_overridden(document, environment), str(path)), str(path))


def check(document: dict[str, Any], name: str) -> Settings:
    """Check a settings document that is already plain data; `name` stands in the errors."""
    settings = convert(document, Settings, name)
    problems = list(receivers.problems(settings.receivers, name))
    problems += _store_problems(settings.store, name)
    problems += _shares(settings.telemetry, name)
    problems += _oidc_problems(settings.oidc, name)
    if settings.journal.url and not settings.journal.url.startswith(("postgres://", "postgresql://")):
        problems.append(Problem(name, "journal.url", "must begin with postgres://; without it the journal is a file"))
    if problems:
        raise ConfigError(problems)
    return settings


def _oidc_problems(oidc: Oidc, name: str) -> Iterator[Problem]:
    if not oidc.issuer:
        return
    local = oidc.issuer.startswith(("http://127.0.0.1:", "http://localhost:"))
    if not oidc.issuer.startswith("https://") and not local:
        yield Problem(name, "oidc.issuer", "must begin with https://: what comes from there decides who is admin")
    if not oidc.client_id:
        yield Problem(name, "oidc.client_id", "missing; the provider gives one")


def _store_problems(store: Store, name: str) -> Iterator[Problem]:
    if store.kind != "embedded" and not store.url:
        yield Problem(name, "store.url", f"missing; store.kind {store.kind!r} needs one")
    elif store.url and not store.url.startswith(("https://", "http://")):
        yield Problem(name, "store.url", "must begin with https:// or http://")
    elif "@" in store.url:
        yield Problem(name, "store.url", "must hold no password, it is shown; use store.username and IOTCORE_STORE__PASSWORD")
    if store.key_file and not store.cert_file:
        yield Problem(name, "store.cert_file", "missing; store.key_file is the key of a certificate")
    if store.confidential and store.database_confidential == store.database:
        yield Problem(name, "store.database_confidential", "must differ from store.database")


def _with_secrets(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Read what `token_file` and `password_file` name; a secret that is given itself (by the environment) wins."""
    store = document.get("store")
    for key in ("token", "password"):
        path = store.get(f"{key}_file") if isinstance(store, dict) else None
        if not isinstance(store, dict) or not isinstance(path, str) or not path or store.get(key):
            continue
        try:
            store[key] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            said = error.strerror if isinstance(error, OSError) else "is not UTF-8"
            raise ConfigError([Problem(name, f"store.{key}_file", f"{path} cannot be read: {said}")]) from error
    return document


def _shares(workers: Sequence[Telemetry], name: str) -> Iterator[Problem]:
    """What is wrong with the way in which the telemetry workers share the domains."""
    if len(workers) > MAX_WORKERS:
        yield Problem(name, "telemetry", f"has {len(workers)} workers; there may be {MAX_WORKERS}")
    owner: dict[str, int] = {}
    for i, worker in enumerate(workers):
        if not worker.domains:
            yield Problem(name, f"telemetry[{i}].domains", "is empty: a worker that owns nothing has nothing to do")
        for domain in worker.domains:
            if domain in owner:
                yield Problem(name, f"telemetry[{i}].domains", f"{domain!r} is already owned by telemetry[{owner[domain]}]")
            owner.setdefault(domain, i)
    missing = [domain for domain in DOMAINS if domain not in owner]
    if missing:
        yield Problem(name, "telemetry", f"no worker owns {', '.join(missing)}: nobody would store what is said there")


def _overridden(document: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    for key, text in sorted(environment.items()):
        *sections, name = key.removeprefix(ENV_PREFIX).lower().split("__")
        if not key.startswith(ENV_PREFIX) or not (sections or name in Settings.__struct_fields__):
            continue  # IOTCORE_CONFIG, IOTCORE_CA_PASSPHRASE and the like are not settings
        table = document
        for section in sections:
            table = _receiver(table, section, key) if isinstance(table, list) else table.setdefault(section, {})
        table[name] = int(text) if text.isdecimal() and name.endswith(("port", "bytes", "_s", "_days")) else text
    return document


def _receiver(receivers: list[dict[str, Any]], name: str, variable: str) -> dict[str, Any]:
    """The receiver that a variable names; shells know no "-", so "_" stands for it."""
    for receiver in receivers:
        if str(receiver.get("name", "")).lower().replace("-", "_") == name:
            return receiver
    raise ConfigError([Problem(variable, "", f"no receiver is named {name!r}")])
