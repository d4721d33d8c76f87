"""One simulated Modbus unit: the words of its spec, what it takes and refuses, and what is wrong with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from iotcore.reading import Scalar
from iotcore.specs import encode, firmware, meaning, plan, raw
from iotcore.specs.model import Command, DeviceSpec, ModbusLimits, ModbusWire, Table
from simulators import modbus_pdu as pdus
from simulators.modbus_content import Content, Key, Lens
from simulators.modbus_wrong import ExceptionAnswer, Fault

LAST_WRITES = 1000  # the oldest are forgotten
NO_LIMITS = ModbusLimits()


class ModbusDevice:
    """One unit. What was never set reads as zero; an address that its spec's requests and commands do not touch does not exist.

    `firmware_version` is what it tells where its spec has a register for that (by default one that the spec's own points
    describe); its points then lie as that version has them. `writable`: addresses that it lets a client write besides those of
    its spec's commands. `on_read` is called before each read is answered, so that values can follow the reads.
    """

    def __init__(
        self,
        spec: DeviceSpec,
        values: Mapping[str, Scalar | None] | None = None,
        *,
        firmware_version: str = "",
        writable: Collection[Key] = (),
    ) -> None:
        self.model = spec
        self.spec = firmware.layout(spec, firmware_version) or spec if firmware_version else spec
        self.fault: Fault | None = None
        self.silent = False  # takes requests and never answers
        self.exception: int | None = None  # answers every request with this exception code
        self.delay_s = 0.0  # thinks this long before it answers
        self.on_read: Callable[[], None] | None = None
        self.reads = 0
        self.overlapped = 0  # requests that came while it was busy with another, answered "busy"
        self.hurried = 0  # requests that came sooner after an answer than the spec's min_gap_ms
        self.writes: deque[tuple[Table, int, tuple[int, ...]]] = deque(maxlen=LAST_WRITES)
        self.writes_refused = 0
        self.values: dict[str, Scalar | None] = {}
        self._limits = spec.modbus or NO_LIMITS
        self._commands = {name: command for name, command in spec.commands.items() if command.modbus is not None}
        self._writable = {*writable, *(key for command in self._commands.values() for key in _keys(command.modbus))}
        self._lens: tuple[Content, Lens] | None = None
        self.words: dict[Key, int] = dict.fromkeys(self._writable, 0)
        for request in (*plan.requests(self.spec), plan.version_request(spec)):
            if request is not None:
                self.words.update(dict.fromkeys(((request.table, request.address + i) for i in range(request.count)), 0))
        for patch in encode.unit_patches(self.spec):
            encode.merge(self.words, patch)
        if firmware_version:
            self._tell_version(firmware_version)
        for point, value in (values or {}).items():
            self.set(point, value)

    def set(self, point: str, value: Scalar | None, quality: str | None = None) -> None:
        """Write a point's registers; `quality` is one of the states that its spec knows ("bad:not_assigned").

        Raises:
            ValueError: the value or the state does not fit the point.
        """
        for patch in encode.patches(self.spec, point, value, quality or "good"):
            encode.merge(self.words, patch)
        self.values[point] = value

    def answer(self, pdu: bytes, fault: Fault | None = None) -> bytes:
        """The answer to a request; `fault` is what is wrong with the whole line, else the unit's own counts."""
        fault = fault or self.fault
        code = fault.code if isinstance(fault, ExceptionAnswer) else self.exception
        if pdu[0] in pdus.TABLES:
            self.reads += 1
            if self.on_read is not None:
                self.on_read()
        if code is not None:
            return pdus.refusal(pdu, code)
        return pdus.answer(pdu, partial(self._read, self._seen_through(fault)), self._write)

    def _read(self, lens: Lens, table: Table, address: int, count: int) -> Sequence[int]:
        if count > (self._limits.max_bits if table in raw.BIT_TABLES else self._limits.max_registers):
            raise pdus.Refusal(pdus.ILLEGAL_VALUE)
        seen = [word for i in range(count) if (word := lens((table, address + i))) is not None]
        if len(seen) < count:
            raise pdus.Refusal(pdus.ILLEGAL_ADDRESS)
        return seen

    def _write(self, table: Table, address: int, words: Sequence[int]) -> None:
        keys = [(table, address + i) for i in range(len(words))]
        if not self._writable.issuperset(keys):
            self.writes_refused += 1
            raise pdus.Refusal(pdus.ILLEGAL_ADDRESS if self._writable else pdus.ILLEGAL_FUNCTION)
        self.words.update(zip(keys, words, strict=True))
        self.writes.append((table, address, tuple(words)))
        for command in self._commands.values():
            if command.reads_back is not None and not set(keys).isdisjoint(_keys(command.modbus)):
                self._show(command, command.reads_back)

    def _show(self, command: Command, point: str) -> None:
        """A command was written: the point that reads it back follows, unless it cannot hold such a value."""
        wire = command.modbus
        assert wire is not None
        words = [self.words[key] for key in _keys(wire)]
        number = raw.number(wire.type, words, wire.byte_order or self._limits.byte_order)
        number = int(number) >> (wire.bit or 0) & 1 if wire.type == "bit" or wire.bit is not None else number
        shown = self.spec.points[point]
        word = command.states.get(meaning.word(number))
        if command.states and word is None:
            return  # it is another command that writes this value to the same register
        value: Scalar | None = word if word is not None else meaning.value(point, shown, number).value
        try:
            self.set(point, value)
        except ValueError:
            return

    def _seen_through(self, fault: Fault | None) -> Lens:
        if not isinstance(fault, Content):
            self._lens = None
            return self.words.get
        if self._lens is None or self._lens[0] is not fault:
            self._lens = (fault, fault.lens(self))
        return self._lens[1]

    def _tell_version(self, version: str) -> None:
        wire = self.model.firmware.modbus if self.model.firmware is not None else None
        if wire is None:
            raise ValueError(f"{self.model.model} has no register that tells a firmware version")
        order = wire.byte_order or self._limits.byte_order
        if wire.type == "string":
            words = raw.text_words(version, wire.length or 1, order)
        else:
            words = raw.words(wire.type, float(version) if wire.type in raw.FLOATS else int(version), order)
        self.words.update(zip(_keys(wire), words, strict=True))


def _keys(wire: ModbusWire | None) -> list[Key]:
    return [] if wire is None else [(wire.table, wire.address + i) for i in range(raw.width(wire))]
