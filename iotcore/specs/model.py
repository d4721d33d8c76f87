"""DeviceSpec: a device model as data.

A point has a wire side (where the bytes are) and a meaning side (unit, scale, range). A loaded spec is written out: repeats are
expanded into `points`, and Modbus addresses are 0-based whatever notation the file used.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

DeviceClass = Literal["fire_detector", "fire_panel", "air_station", "water_station", "traffic_signal", "gateway"]
Protocol = Literal["canonical", "modbus", "json", "bytes"]
RawType = Literal["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bit", "string"]
ByteType = Literal["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"]
ByteOrder = Literal["ABCD", "BADC", "CDAB", "DCBA"]
Table = Literal["holding", "input", "coil", "discrete"]
Kind = Literal["number", "bool", "text", "enum", "flags"]
Lane = Literal["fire", "bulk"]
Safety = Literal["routine", "two_person", "forbidden"]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,39}$(?!\n)")]
Index = Annotated[str, Meta(pattern=r"^[a-z]{1,12}$(?!\n)")]
Address = Annotated[int, Meta(ge=0, le=465_536, description="0-based 0…65535; 1…465536 where modbus.addresses is modicon")]
Mask = Annotated[int, Meta(ge=1, le=65_535, description="which bits of the register count; they are shifted down to bit 0")]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
LEAST_SILENCE_S = 100.0  # a fault within 100 s: EN 54-21, type 1; less would blame devices for the network's retries
SILENCE_INTERVALS = 2.5  # two readings may be lost on the way, and the third late by half
WEAK_SILENCE_S = 300.0  # loss of a radio detector recognised within 300 s: EN 54-25, from memory
Words = dict[str, str]  # language → what people see: {vi: Khói, en: Smoke}


class ModbusWire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a point stands in a Modbus unit: table, address, raw type."""

    table: Table
    address: Address
    type: RawType
    bit: Annotated[int, Meta(ge=0, le=15)] | None = None
    mask: Mask | None = None  # a field of a uint16: (word & mask), shifted down
    length: Annotated[int, Meta(ge=1, le=125)] | None = None  # registers of a string
    byte_order: ByteOrder | None = None  # None: the spec's default


class JsonWire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a point stands in a vendor's JSON payload. Canonical devices need none: the key is the point's name.

    `path` is keys joined by dots; `[2]` takes an element of an array and `[key=text]` the first element whose `key` is `text`:
    `sensordatavalues[value_type=SDS_P2].value`.
    """

    path: Annotated[str, Meta(min_length=1, max_length=200)]
    number_in_text: bool = False  # "7.4" is 7.4; without it a number in quotes is bad:wrong_type


class BytesWire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a point stands in a payload of bytes."""

    offset: Annotated[int, Meta(ge=0, le=1023)]
    type: ByteType
    mask: Mask | None = None
    byte_order: Literal["big", "little"] = "big"


class QualityWire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A register, bit, JSON value or byte that says how good a value is: raw → "good", "uncertain:why" or "bad:why".

    Either `table` and `address`, or `path`, or `offset`, as the spec's protocol is.
    """

    states: dict[str, str]  # raw value as text ("3", "0x0F", "true") → quality
    table: Table | None = None
    address: Address | None = None
    mask: Mask | None = None  # of the register or byte, shifted down
    path: str | None = None  # in the JSON payload, as JsonWire.path
    offset: Annotated[int, Meta(ge=0, le=1023)] | None = None  # of one byte in a payload of bytes
    otherwise: str = "bad:unknown_state"  # what any other raw value says


class Point(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing a device tells. `value = raw * scale + offset`, in `unit`; outside `range` it is bad:out_of_range.

    kind: `number`; `bool` (one bit, or raw is one of `true_when`); `enum` (raw → a word of `states`, as text; an unknown raw is
    bad:unknown_state unless `otherwise` gives a word); `flags` (the words of all set bits of `states`, joined by a space, as
    text; "" when none is set); `text`.
    """

    unit: str = ""
    kind: Kind = "number"
    scale: float = 1.0
    offset: float = 0.0
    range: tuple[float, float] | None = None
    modbus: ModbusWire | None = None
    json: JsonWire | None = None
    bytes: BytesWire | None = None
    quality: tuple[QualityWire, ...] = ()  # the worst verdict counts, together with the spec's own `quality`
    sentinels: tuple[float, ...] = ()  # raw values that mean "no value"; `.nan` too. NaN and infinity are never values
    states: dict[str, str] = {}  # enum: raw → word; flags: bit number → word
    otherwise: str = ""  # enum: the word of every raw value that `states` does not know
    true_when: tuple[str, ...] = ()  # bool: the raw values that mean true, as text ("0x10", "ON")
    lane: Lane | None = None  # polled first when "fire"; None: fire for fire devices, else bulk
    poll_s: Seconds | None = None  # how often it is read; None: `interval_s`
    deadband: Annotated[float, Meta(ge=0)] | None = None  # in `unit`: a change of more than this is told at once
    stuck_after_s: Seconds | None = None  # the (raw) value the same for longer than this: bad:stuck
    title: Words = {}


class Repeat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same points many times: detector 1 to 159 of loop 1 to 10, not 1,590 entries.

    Names and titles of `points` hold each index in braces, `l{loop}_d{detector}_fire`. An index of `over` counts from its
    first to its last number, both included; every step of it moves all addresses by `stride` registers (or bytes).
    """

    over: dict[Index, tuple[int, int]]
    stride: dict[Index, Annotated[int, Meta(ge=0, le=65_535)]]
    points: dict[str, Point]


class ModbusLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a unit bears, how its words lie and how its addresses are written."""

    byte_order: ByteOrder = "ABCD"
    addresses: Literal["zero_based", "modicon"] = "zero_based"  # modicon: 40001 is the first holding register, 30001 input, …
    max_registers: Annotated[int, Meta(ge=1, le=125)] = 125
    max_bits: Annotated[int, Meta(ge=1, le=2000)] = 2000
    max_hole: Annotated[int, Meta(ge=0, le=124)] = 8  # registers read for nothing, to join two blocks into one request
    min_gap_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0  # silence between an answer and the next request
    timeout_s: Annotated[float, Meta(gt=0, le=60)] = 1.0
    one_request_at_a_time: bool = True  # our driver never overlaps requests; a simulated unit answers an overlapping one "busy"
    baud: Annotated[int, Meta(ge=300, le=921_600)] = 9600  # of the unit's serial line as delivered, for the time on the bus
    parity: Literal["N", "E", "O"] = "N"
    stop_bits: Literal[1, 2] = 1


class MqttSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a vendor's device publishes: protocols `json` and `bytes`."""

    topic: str = ""  # `{device}` stands for the name that the vendor's side gives the device: "zigbee2mqtt/{device}"
    format: Literal["own", "thingsboard"] = "own"  # thingsboard: its gateway API, which has its own topics and names devices
    encoding: Literal["raw", "hex", "base64"] = "raw"  # bytes: how they are written
    path: str = ""  # bytes: where a network server's JSON holds them, as JsonWire.path; "": the payload is they
    length: Annotated[int, Meta(ge=1, le=1024)] | None = None  # bytes: exactly so many, else refused
    checksum: Literal["none", "sum_zero"] = "none"  # bytes: sum_zero: all bytes add up to 0 modulo 256
    timestamp: str = ""  # JSON path of the source time, ms UTC; "": the payload has none


class TestMark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a reading is a test (a pressed test button): `point` has one of `values`. It is never dispatched."""

    point: Name
    values: tuple[str | bool, ...]


class Revision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is different in some firmware versions: points added or replaced whole, points that are not there."""

    versions: tuple[str, ...]
    differs: str  # in words, with the document that says so
    points: dict[Name, Point] = {}
    without: tuple[Name, ...] = ()


class Firmware(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which firmware the map is for. A version is matched whole; `*` stands for anything: "2.*".

    A device of a version that nothing here matches decodes to bad:unknown_firmware, every point of it: never a guess.
    """

    base: tuple[str, ...]  # versions that the spec's own points describe
    modbus: ModbusWire | None = None  # where a unit tells its version: a string, or a number (then its decimal text)
    json: JsonWire | None = None
    revisions: tuple[Revision, ...] = ()


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An intent that the device takes, and how dangerous it is. Nothing is written unless an allow-list names it.

    safety: `routine` one authorised person; `two_person` two of them; `forbidden` the unit would take it, we never send it.
    """

    safety: Safety
    title: Words
    modbus: ModbusWire | None = None  # holding register or coil that is written
    range: tuple[float, float] | None = None  # of a number that is written
    states: dict[str, str] = {}  # raw → word, of an enumeration that is written
    reads_back: Name | None = None  # the point that shows it was taken
    reverts_after_s: Seconds | None = None  # the device goes back by itself


class DeviceSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, eq=False):
    """One model of one vendor. `source` names the document the map comes from; `verified` what was checked, and how."""

    model: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$(?!\n)")]
    vendor: str
    title: str
    device_class: DeviceClass
    protocol: Protocol
    source: str
    verified: str
    interval_s: Seconds  # a reading is expected at least this often
    points: dict[Name, Point] = {}
    repeats: tuple[Repeat, ...] = ()
    modbus: ModbusLimits | None = None
    mqtt: MqttSource | None = None
    quality: tuple[QualityWire, ...] = ()  # verdicts on the whole unit: each point's quality is the worst of all
    hardware: dict[str, str] = {}  # hardware revision → what differs, in words
    firmware: Firmware | None = None  # None: one map for all versions
    life_check: Name | None = None  # a point that always moves; while it is stuck, every point is bad:life_check
    test: TestMark | None = None
    fire_budget_s: Seconds = 10.0  # from the unit's register to our reading; EN 54-2 (from memory): ≤ 10 s to the indication
    commands: dict[Name, Command] = {}
    silence_s: Seconds | None = None  # silent for so long is a trouble; None: 2.5 intervals, at least 100 s. It only tightens

    @property
    def silence_limit_s(self) -> float:
        """For how long it may say nothing before that is a trouble."""
        longest_s = max(LEAST_SILENCE_S, SILENCE_INTERVALS * self.interval_s)
        return longest_s if self.silence_s is None else self.silence_s

    @property
    def weakly_supervised(self) -> bool:
        """Whether a dead fire point of this model is noticed later than it should be."""
        return self.silence_limit_s > WEAK_SILENCE_S

    @property
    def marks_tests(self) -> bool:
        """Whether its readings can say that they are a test: the wire contract has a flag for it, other protocols need `test`."""
        return self.protocol == "canonical" or self.test is not None
