"""docs/settings.md, made from the settings' own types: `python -m iotcore.settings_page > docs/settings.md`.

A setting without its words in `WORDS`, or words without a setting, fail a test.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import msgspec
from msgspec import inspect

from iotcore import settings, settings_receivers
from iotcore.settings_page_channels import WORDS_OF_CHANNELS

WORDS = {
    "Settings.data": "Data folder: databases, certificates, broker homes. On a local disk, never on a network share.",
    "Settings.cell": "Name of this cell, where several write to one store: a tag of its coverage series "
    "([operations.md](operations.md#growing-workers-and-cells)).",
    "Settings.specs": 'Folder of device specs; "" means those that come with iotcore.',
    "Settings.rules": 'Fire rules file; "" means the default rules.',
    "Settings.modbus_allow": "Allow-list of Modbus writes (technician.md); empty: nothing is ever written.",
    "Settings.modbus_gateway": "The gateway device in the registry that the central Modbus driver speaks as.",
    "Settings.modbus_interval_s": "Poll every Modbus unit this often, in seconds; 0 means as its spec says.",
    "Settings.throttle_times": "A device above so many times the rate of its spec is throttled; 0 throttles nobody.",
    "Broker.port": "Port of the broker.",
    "Broker.host": "Where our own services meet it; its certificate carries this name.",
    "Broker.listen": 'The address that it listens on when we run it; "" means `host`.',
    "Broker.names": "Further names and addresses that devices know it by, for its certificate.",
    "Broker.run": "Who runs it: `auto` Mosquitto if it is installed and else amqtt (not for real alarms), `mosquitto`, `amqtt`, "
    "or `external`: somebody else.",
    "Broker.password_port": "Port of the listener for vendors' devices that have only a password "
    "([vendor-mqtt.md](vendor-mqtt.md)); 0 means that there is none. Mosquitto only.",
    "Store.kind": "Where telemetry ends: SQLite in the data folder, InfluxDB 1.x, or the v2 API of InfluxDB 2 and 3.",
    "Store.url": "Base URL of InfluxDB; needed unless `kind` is `embedded`.",
    "Store.database": "Database (1.x, 3) or bucket (2). Means go to databases of this name with `_1m` and `_1h` after it.",
    "Store.database_confidential": "Where the values of confidential devices go instead; their means likewise.",
    "Store.confidential": "Domains or device classes that are confidential: their values go to `database_confidential` alone.",
    "Store.org": "Organisation (2).",
    "Store.token": "Token (2, 3). A secret.",
    "Store.token_file": "File that holds the token.",
    "Store.username": "User (1.x with authentication).",
    "Store.password": "Password (1.x with authentication). A secret.",
    "Store.password_file": "File that holds the password.",
    "Store.ca_file": "PEM file with the authority of an `https://` server's certificate, when it is not a public one.",
    "Store.cert_file": "PEM file with our certificate, for a server (or a proxy before it) that asks for one.",
    "Store.key_file": "Its key, when it is not in the same file.",
    "Store.retention_days": "How long single values are kept, in days; 0 means for ever.",
    "Store.retention_1m_days": "How long means of a minute are kept, in days; 0 means for ever.",
    "Store.retention_1h_days": "How long means of an hour are kept, in days; 0 means for ever.",
    "Spool.max_bytes": "How much telemetry may wait on disk while the store is away; then the oldest goes, and is counted.",
    "Spool.max_age_s": "How long it may wait, in seconds.",
    "Telemetry.domains": "The domains that this worker owns: it stores and receipts them.",
    "Metrics.host": "Where `/metrics` is served. It has no accounts: keep it on loopback, or where only Prometheus reaches it.",
    "Metrics.port": "The port of the fire process's metrics; the others follow it ([metrics.md](metrics.md)). 0: no metrics.",
    "Registry.url": '`postgres://user:password@host:port/database`; "" means SQLite in the data folder. Holds a secret.',
    "Journal.url": '`postgres://user:password@host:port/database[?schema=journal]`; "" means `journal.db` '
    "([journal.md](journal.md)). Holds a secret.",
    "Backup.max_age_days": "The keeper and `iotcore doctor` say that a backup is missing when the last is older, days; 0: never "
    "([backup.md](backup.md)).",
    "Coverage.tested_within_days": "A fire device counts for its key site when a test alarm of it came through within so many "
    "days. 365: initiating devices are tested once a year (NFPA 72, table 14.4.3.2).",
    "Coverage.goal_year": "At the end of this year every key site should be covered; the page compares the trend with it.",
    "Audit.folder": "The keeper writes the signed head of the audit chain to `heads.jsonl` here every hour. Best a folder "
    'of another machine ([audit.md](audit.md)); "" means `audit/heads` in the data folder.',
    "Fire.replicas": "How many fire processes run; each hears and judges everything ([fire-lane.md](fire-lane.md)).",
    "Fire.emergency_folder": 'Where the emergency logs lie (8 MiB for each replica); "" means the data folder.',
    "Fire.https_port": "Port of the listener; 0: there is none.",
    "Fire.https_host": "The listener's address.",
    "Fire.https_names": "Names and addresses in its certificate.",
    "Fire.expired": "What a certificate that has run out is good for there: `alarms` alone, or nothing (`refuse`) "
    "([alternate-path.md](alternate-path.md)).",
    "Web.host": "The page listens here, without TLS: keep it on loopback, behind a proxy that has TLS "
    "([people.md](people.md#tls)).",
    "Web.port": "Port of the page.",
    "Web.names": "Further host names that the page answers to, such as that of a reverse proxy.",
    "Web.est_host": "The enrolment listener (EST over TLS) listens here.",
    "Web.est_port": "Port of the enrolment listener.",
    "Web.approval": "Whether a person approves every enrolment by token or secret; else only where the token says so "
    "([enrolment.md](enrolment.md)).",
    "Web.crl_port": "Port for revocation lists and OCSP over plain HTTP, on `est_host` ([revocation.md](revocation.md)); "
    "certificates then name it. 0: lists over TLS at `est_port` alone, no OCSP.",
    "Web.est_names": "Names and addresses in its certificate; the first stands in device certificates as the place of the "
    "revocation lists.",
    "Web.language": "Language of the page until its reader chooses another.",
    "Web.public_url": "The address under which people reach the page, such as `https://iot.example`: the labels of devices lead "
    "there ([import.md](import.md#labels)).",
    "People.two_person": "Operations of the authority and of admins take a second admin, as soon as there is a user.",
    "People.passwords": "Whether passwords let anybody in; with `false` only an OpenID provider and one-time links do.",
    "People.session_idle_s": "A session ends when it was not used for so many seconds; an open live page uses it.",
    "People.session_s": "A session ends after so many seconds in any case.",
    "People.operators": 'Which user somebody is at this machine\'s command line: `{ login = "user" }`.',
    "Oidc.issuer": 'The provider, as its tokens name it; "" means that there is none.',
    "Oidc.client_id": "What we are called there.",
    "Oidc.client_secret": "Our secret there. A secret.",
    "Oidc.title": "What the button says.",
    "Oidc.scopes": "What is asked for; some providers tell groups only with a scope of their own.",
    "Oidc.name_claim": "The claim that a new user gets its name from.",
    "Oidc.groups_claim": "The claim that lists the groups.",
    "Oidc.ca_file": "PEM file with the authority of the provider's certificate, when it is not a public one.",
    "Oidc.auto_create": "Whether somebody whom the provider knows becomes a user by signing in, if a group of theirs has "
    "a role here.",
    "OidcRole.group": "A group, as the provider tells it.",
    "OidcRole.role": "What whoever is in it becomes here.",
    "OidcRole.area": 'Where: an area and all that lies in it; "" means everywhere.',
    "Deadman.url": "Where signs of life are posted, as the outside monitor gave it to you; empty: none are. A secret: better set "
    "by `IOTCORE_DEADMAN__URL`.",
    "Deadman.interval_s": "How often, in seconds; the monitor should wait for three of them.",
    "Deadman.allow_http": "Whether it may go without TLS.",
    "Deadman.allow_private": "Whether the monitor may stand at a private address.",
    "Outbox.max_bytes": "How much of everything but fire may wait on disk for the core.",
    "Outbox.fire_max_bytes": "How much of fire may wait, in a file of its own.",
    "Outbox.max_age_s": "How long either may wait, in seconds.",
    "Gateway.id": "The gateway device, as the core's registry knows it: the name of its certificates.",
    "Gateway.units": "File with the Modbus units that it polls (YAML or TOML), see [gateway.md](gateway.md).",
    "Gateway.est_url": "The core's enrolment listener: `https://host:8443`.",
    "Gateway.trust": "PEM file with the core's service root: whom the gateway trusts, brokers and enrolment alike.",
    "Gateway.fire_token": "One-time token for the first fire certificate; needed once, and only with fire units. A secret.",
    "Gateway.field_token": "One-time token for the first field certificate; needed once. A secret.",
    "Used.alternate": "Name of another receiver, which is told too when this one does not answer in time "
    "([receivers.md](receivers.md#two-paths)); it is told of nothing else.",
    "Used.hedge_s": "In which time, in seconds.",
    "Used.parallel": "How many messages may be on their way at once, each over a connection of its own.",
    "Asked.allow_http": "Whether `http://` will do; else only TLS.",
    "Asked.allow_private": "Whether requests may go to addresses that are not public: of your own network, of this machine.",
    "Asked.allow_networks": "Such networks that they may go to, as `10.20.0.0/16`; no others then need `allow_private`.",
    "Dc09Receiver.name": "What the receiver is called in incidents, logs and variables.",
    "Dc09Receiver.host": "Address of the receiver.",
    "Dc09Receiver.port": "Port of the receiver.",
    "Dc09Receiver.key": 'AES key, 16, 24 or 32 characters; "" sends in clear. A secret.',
    "Dc09Receiver.receiver": "Receiver number of the frame (R), hexadecimal.",
    "Dc09Receiver.line": "Line prefix of the frame (L), hexadecimal.",
    "Dc09Receiver.reply_timeout_s": "How long to wait for the receiver's acknowledgement before it is sent again, in seconds.",
    "Dc09Receiver.transport": "`udp`: one datagram a frame, repeated until the reply is there or the reply timeout over.",
    "Dc09Receiver.format": "Event codes: SIA DC-03 or Contact ID.",
    "Dc09Receiver.extended": "How much of extended data the receiver takes: all blocks, one text, or none; `auto`: all in "
    "SIA-DCS, one text in ADM-CID.",
    "Dc09Receiver.account": "The account of link tests (`NULL`), hexadecimal; the receiver must know it.",
    "Dc09Receiver.supervise_s": "How often the path is tested, in seconds; 0: never.",
    "Dc09Receiver.fault_s": "A path without a valid acknowledgement for so many seconds is a trouble.",
    "Dc09Receiver.tells": "What it is told of; `disablement`: what is out of service, `walk`: walk tests.",
    "WebhookReceiver.name": "What the receiver is called in incidents, logs and variables.",
    "WebhookReceiver.url": "Where the JSON is posted.",
    "WebhookReceiver.secret": "Signs the body (HMAC-SHA-256). A secret.",
    **WORDS_OF_CHANNELS,
    "WebhookReceiver.reply_timeout_s": "How long to wait for the answer before it is sent again, in seconds.",
}

HEAD = """# Settings

One TOML file, read by every process of an installation and refused whole, with every problem at once, when anything in it is
wrong. It is named by `--config FILE` or by the variable `IOTCORE_CONFIG`; otherwise it is `iotcore.toml` where you stand. A full
example with comments is [deploy/iotcore.toml](../deploy/iotcore.toml); the shortest that works is `data = "FOLDER"`.

**Variables override the file**, so that secrets stay out of it: `IOTCORE_<SECTION>__<KEY>`, such as `IOTCORE_STORE__TOKEN` or
`IOTCORE_BROKERS__FIRE__PORT`; for a receiver `IOTCORE_RECEIVERS__<NAME>__<KEY>`, with `_` for `-` in its name. A file of such a
name in `$CREDENTIALS_DIRECTORY` (systemd's `LoadCredential=`) counts like the variable. Four variables are no settings:
`IOTCORE_CONFIG`; `IOTCORE_CA_PASSPHRASE`, which opens the keys of the certificate authority (without it a passphrase is made
and kept in the data folder); `IOTCORE_SECRETS_KEY`, which opens what `iotcore secret set NAME` has sealed and a receiver names
as `secret:NAME` ([receivers.md](receivers.md#secrets)); and `IOTCORE_API_TOKEN`, by which the command line knows who you are
([people.md](people.md#two-persons)).

This page is made from the types by `python -m iotcore.settings_page`; a test keeps it current.
"""
PLAIN = {inspect.BoolType: "true or false", inspect.DictType: "table"}
TABLE = "| Setting | Kind | Default | What it is |\n|---|---|---|---|"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, struct, path in _sections():
        rows = [_row(struct, field, path) for field in msgspec.structs.fields(struct) if not _is_section(field)]
        parts.append("\n".join([f"## {title}", "", *_said(struct), TABLE, *rows, ""]))
    return "\n".join(parts)


def undocumented() -> set[str]:
    """The settings that have no words, and the words that have no setting."""
    known = {
        _key(struct, field) for _, struct, _ in _sections() for field in msgspec.structs.fields(struct) if not _is_section(field)
    }
    return known ^ set(WORDS)


def _sections() -> Iterator[tuple[str, type[msgspec.Struct], str]]:
    """Title, type, and what stands before a key."""
    yield "At the top of the file", settings.Settings, ""
    for field in msgspec.structs.fields(settings.Settings):
        if field.type is settings.Brokers:
            yield "`[brokers.fire]` and `[brokers.field]`", settings.Broker, "brokers.*."
        elif (struct := _table(field)) is not None:
            several = get_origin(field.type) is list
            yield f"`[[{field.name}]]`" if several else f"`[{field.name}]`", struct, f"{field.name}{'[]' if several else ''}."
    yield "`[[oidc.roles]]`", settings.OidcRole, "oidc.roles[]."
    for receiver in settings_receivers.KINDS:
        yield f'`[[receivers]]` with `kind = "{receiver.__struct_config__.tag}"`', receiver, ""


def _key(struct: type[msgspec.Struct], field: msgspec.structs.FieldInfo) -> str:
    """What the words of a setting stand under: the Struct that has it first, of those that a kind of receiver is made of."""
    bases = [base for base in reversed(struct.__mro__) if issubclass(base, msgspec.Struct) and base is not msgspec.Struct]
    owner = next(base for base in bases if field.name in base.__struct_fields__)
    return f"{owner.__name__}.{field.name}"


def _is_section(field: msgspec.structs.FieldInfo) -> bool:
    """Whether a field of Settings is a table of its own rather than a value."""
    return field.name == "receivers" or _table(field) is not None


def _table(field: msgspec.structs.FieldInfo) -> type[msgspec.Struct] | None:
    """The Struct that a field holds, perhaps none of it: `Gateway | None`."""
    for each in get_args(field.type) or (field.type,):
        if isinstance(each, type) and issubclass(each, msgspec.Struct):
            return each
    return None


def _said(struct: type[msgspec.Struct]) -> list[str]:
    return [] if struct is settings.Settings else [str(struct.__doc__).strip(), ""]


def _row(struct: type[msgspec.Struct], field: msgspec.structs.FieldInfo, path: str) -> str:
    words = WORDS.get(_key(struct, field), "")
    return f"| `{path}{field.name}` | {_kind(inspect.type_info(field.type))} | {_default(struct, field)} | {words} |"


def _default(struct: type[msgspec.Struct], field: msgspec.structs.FieldInfo) -> str:
    if struct is settings.Broker and field.name == "port":
        brokers = settings.Brokers()
        return f"`{brokers.fire.port}` and `{brokers.field.port}`"
    if field.required:
        return "needed"
    value: Any = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f"`{json.dumps(value)}`"


def _kind(kind: inspect.Type) -> str:
    match kind:
        case inspect.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case inspect.IntType(ge=low, le=high) | inspect.FloatType(ge=low, gt=None, le=high):
            return f"number{_range('from', low)}{_range('to', high)}"
        case inspect.FloatType(gt=low, le=high):
            return f"number{_range('above', low)}{_range('to', high)}"
        case inspect.ListType(item_type=item):
            return f"list of {_kind(item)}"
        case _:
            return PLAIN.get(type(kind), "text")


def _range(word: str, bound: float | None) -> str:
    return "" if bound is None else f" {word} {bound:,}"


if __name__ == "__main__":
    sys.stdout.write(page())
