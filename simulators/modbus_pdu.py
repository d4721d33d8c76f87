"""Modbus requests as a unit answers them: function codes 1–6, 15, 16, 22 and 23; any other is refused with exception 1.

Source: Modbus Application Protocol 1.1b3, §6 (requests and answers) and §7 (exceptions).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from iotcore.specs.model import Table

ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, BUSY, NO_RESPONSE = 1, 2, 3, 6, 11  # exception codes
TABLES: dict[int, Table] = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}  # by the function code that reads it
BIT_CODES = frozenset({1, 2})
MOST_BITS, MOST_REGISTERS, MOST_BITS_WRITTEN, MOST_WRITTEN, MOST_WRITTEN_READING = 2000, 125, 1968, 123, 121
COIL_ON = 0xFF00
WRITE_CODES = frozenset({5, 6, 15, 16, 22, 23})

Read = Callable[[Table, int, int], Sequence[int]]  # table, address, count → words or bits; raises Refusal
Write = Callable[[Table, int, Sequence[int]], None]  # table, address, words or bits; raises Refusal


class Refusal(Exception):
    """The unit answers with an exception code."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"exception {code}")


def answer(pdu: bytes, read: Read, write: Write) -> bytes:
    """The answer to the request `pdu` of a unit whose words `read` and `write` reach."""
    function = pdu[0]
    try:
        if function in TABLES:
            return _read(function, pdu, read)
        if function in _OTHERS:
            return _OTHERS[function](pdu, read, write)
    except Refusal as no:
        return refusal(pdu, no.code)
    except struct.error:  # shorter or longer than its function code says
        return refusal(pdu, ILLEGAL_VALUE)
    return refusal(pdu, ILLEGAL_FUNCTION)


def refusal(pdu: bytes, code: int) -> bytes:
    """The exception answer to `pdu`."""
    return bytes((pdu[0] | 0x80, code))


def _read(function: int, pdu: bytes, read: Read) -> bytes:
    address, count = struct.unpack(">HH", pdu[1:])
    if not 1 <= count <= (MOST_BITS if function in BIT_CODES else MOST_REGISTERS):
        raise Refusal(ILLEGAL_VALUE)
    words = read(TABLES[function], address, count)
    if function in BIT_CODES:
        content = sum(1 << i for i, bit in enumerate(words) if bit).to_bytes((count + 7) // 8, "little")
    else:
        content = struct.pack(f">{count}H", *words)
    return bytes((function, len(content))) + content


def _write_coil(pdu: bytes, _read: Read, write: Write) -> bytes:
    address, value = struct.unpack(">HH", pdu[1:])
    if value not in (0, COIL_ON):
        raise Refusal(ILLEGAL_VALUE)
    write("coil", address, [int(value == COIL_ON)])
    return pdu


def _write_register(pdu: bytes, _read: Read, write: Write) -> bytes:
    address, value = struct.unpack(">HH", pdu[1:])
    write("holding", address, [value])
    return pdu


def _write_coils(pdu: bytes, _read: Read, write: Write) -> bytes:
    address, count, size = struct.unpack(">HHB", pdu[1:6])
    if not 1 <= count <= MOST_BITS_WRITTEN or size != (count + 7) // 8 or len(pdu) != 6 + size:
        raise Refusal(ILLEGAL_VALUE)
    bits = int.from_bytes(pdu[6:], "little")
    write("coil", address, [bits >> i & 1 for i in range(count)])
    return pdu[:5]


def _write_registers(pdu: bytes, _read: Read, write: Write) -> bytes:
    address, count, size = struct.unpack(">HHB", pdu[1:6])
    if not 1 <= count <= MOST_WRITTEN or size != 2 * count or len(pdu) != 6 + size:
        raise Refusal(ILLEGAL_VALUE)
    write("holding", address, struct.unpack(f">{count}H", pdu[6:]))
    return pdu[:5]


def _mask_write(pdu: bytes, read: Read, write: Write) -> bytes:
    address, kept, added = struct.unpack(">HHH", pdu[1:])
    (before,) = read("holding", address, 1)
    write("holding", address, [before & kept | added & ~kept & 0xFFFF])
    return pdu


def _read_write(pdu: bytes, read: Read, write: Write) -> bytes:
    """The write comes first (§6.17)."""
    address, count, to, written, size = struct.unpack(">HHHHB", pdu[1:10])
    fits = 1 <= count <= MOST_REGISTERS and 1 <= written <= MOST_WRITTEN_READING
    if not fits or size != 2 * written or len(pdu) != 10 + size:
        raise Refusal(ILLEGAL_VALUE)
    read("holding", address, count)  # refused whole, before anything is written
    write("holding", to, struct.unpack(f">{written}H", pdu[10:]))
    words = read("holding", address, count)
    return struct.pack(f">BB{count}H", pdu[0], 2 * count, *words)


_OTHERS: dict[int, Callable[[bytes, Read, Write], bytes]] = {
    5: _write_coil,
    6: _write_register,
    15: _write_coils,
    16: _write_registers,
    22: _mask_write,
    23: _read_write,
}
