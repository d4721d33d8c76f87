"""Questions to a unit and their answers, as PDUs (function code and what follows). Pure.

A question knows what its answer must look like to the byte: function code, length, byte count, echo. Everything else is
`wrong_reply`. Modbus Application Protocol 1.1b3, §6: function codes 1 to 6, 15, 16, 22 and 23.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import Enum
from typing import Literal, NamedTuple

from iotcore.specs.model import Table
from iotcore.specs.plan import Request

READ_CODES: dict[Table, int] = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
BIT_TABLES = frozenset({"coil", "discrete"})
MAX_READ = 125  # registers; §6.3
MAX_READ_BITS = 2000  # §6.1
MAX_WRITE = 123  # registers in one write; §6.12
MAX_WRITE_BITS = 1968  # §6.11
MAX_WRITE_OF_READ_WRITE = 121  # registers; §6.17
EXCEPTION_BIT = 0x80
SENDS_BYTE_COUNT = frozenset({1, 2, 3, 4, 23})  # answers: code, byte count, bytes
GATEWAY_EXCEPTIONS = frozenset({10, 11})  # the gateway's word that the unit behind it does not answer; §7


class Fault(Enum):
    """What a failed question says about who was asked."""

    NONE = "it was answered"
    EXCEPTION = "the unit lives, and refuses this question"
    WRONG = "something answered at once, but not this question"
    DEAD = "nothing of use came in time: the unit is gone, or its line is"
    LINE = "there is no connection to ask over"


class Reply(NamedTuple):
    """The words (or bits, 0 and 1) that were asked for; or none of them, and why."""

    words: Sequence[int] = ()
    why: str = ""
    fault: Fault = Fault.NONE


class WriteRequest(NamedTuple):
    """Write `words` (bits 0 or 1 for coils) at the 0-based `address`.

    One word goes by function code 5 or 6, several by 15 or 16 (`multiple`: one as well, for units that take nothing else);
    `mask` = (and, or) changes single bits of one holding register by function code 22 and takes no words.
    """

    table: Literal["holding", "coil"]
    address: int
    words: tuple[int, ...] = ()
    mask: tuple[int, int] | None = None
    multiple: bool = False


class ReadWriteRequest(NamedTuple):
    """Write `words` at `address`, then read `read_count` holding registers from `read_address`, in one transaction (code 23)."""

    read_address: int
    read_count: int
    address: int
    words: tuple[int, ...]


class Question(NamedTuple):
    """A PDU to send; its answer is `size` bytes and begins with `head`. `bits`: the answer holds so many bits, else registers."""

    pdu: bytes
    head: bytes
    size: int
    bits: int = 0
    returns: bool = True  # whether the answer carries words

    @property
    def code(self) -> int:
        """The function code."""
        return self.pdu[0]

    @property
    def rtu_bytes(self) -> int:
        """Question and answer in RTU frames: each has a unit before it and two bytes of CRC behind."""
        return len(self.pdu) + self.size + 6


def read(table: Table, address: int, count: int) -> Question:
    """Ask for `count` words or bits.

    Raises:
        ValueError: Modbus cannot ask that.
    """
    most = MAX_READ_BITS if table in BIT_TABLES else MAX_READ
    _in_range("read", address, count, most)
    code = READ_CODES[table]
    size = (count + 7) // 8 if table in BIT_TABLES else 2 * count
    pdu = struct.pack(">BHH", code, address, count)
    return Question(pdu, bytes((code, size)), 2 + size, count if table in BIT_TABLES else 0)


def read_of(request: Request) -> Question:
    """The question of a planned request."""
    return read(request.table, request.address, request.count)


def write_of(request: WriteRequest | ReadWriteRequest) -> Question:
    """The question that writes.

    Raises:
        ValueError: Modbus cannot write that.
    """
    if isinstance(request, ReadWriteRequest):
        return _read_write(request)
    if request.mask is not None:
        return _mask_write(request)
    if request.table == "coil":
        return _write_coils(request)
    return _write_registers(request)


def words(question: Question, pdu: bytes) -> Sequence[int]:
    """The words of an answer that fits its question."""
    if not question.returns:
        return ()
    if question.bits:
        packed = int.from_bytes(pdu[2:], "little")
        return [packed >> i & 1 for i in range(question.bits)]
    return struct.unpack_from(f">{(question.size - 2) // 2}H", pdu, 2)


def answer(question: Question, pdu: bytes) -> Reply:
    """What `pdu`, one whole answer, says to `question`."""
    if len(pdu) == question.size and pdu.startswith(question.head):
        return Reply(words(question, pdu))
    if len(pdu) == 2 and pdu[0] == question.pdu[0] | EXCEPTION_BIT:  # noqa: PLR2004 - §7: the code and the exception's code
        return Reply(why=f"exception:{pdu[1]}", fault=Fault.DEAD if pdu[1] in GATEWAY_EXCEPTIONS else Fault.EXCEPTION)
    if not pdu or pdu[0] & ~EXCEPTION_BIT != question.pdu[0]:
        return wrong("function")
    return wrong("length" if question.returns else "echo")


def wrong(what: str) -> Reply:
    """An answer that is none; `what` names the part of it that is wrong."""
    return Reply(why=f"wrong_reply:{what}", fault=Fault.WRONG)


def _write_coils(request: WriteRequest) -> Question:
    count = len(request.words)
    _in_range("write", request.address, count, MAX_WRITE_BITS)
    if not set(request.words) <= {0, 1}:
        raise ValueError(f"a coil takes 0 or 1, not {min(set(request.words) - {0, 1})}")
    if count == 1 and not request.multiple:
        return _echoed(struct.pack(">BHH", 5, request.address, 0xFF00 if request.words[0] else 0))
    size = (count + 7) // 8
    packed = sum(bit << i for i, bit in enumerate(request.words)).to_bytes(size, "little")
    head = struct.pack(">BHH", 15, request.address, count)
    return Question(head + bytes((size,)) + packed, head, len(head), returns=False)


def _write_registers(request: WriteRequest) -> Question:
    count = len(request.words)
    _in_range("write", request.address, count, MAX_WRITE)
    _all_words(request.words)
    if count == 1 and not request.multiple:
        return _echoed(struct.pack(">BHH", 6, request.address, request.words[0]))
    head = struct.pack(">BHH", 16, request.address, count)
    return Question(head + struct.pack(f">B{count}H", 2 * count, *request.words), head, len(head), returns=False)


def _mask_write(request: WriteRequest) -> Question:
    assert request.mask is not None
    if request.table != "holding" or request.words:
        raise ValueError("a mask changes bits of one holding register, and takes no words")
    _in_range("write", request.address, 1, 1)
    _all_words(request.mask)
    return _echoed(struct.pack(">BHHH", 22, request.address, *request.mask))


def _read_write(request: ReadWriteRequest) -> Question:
    count = len(request.words)
    _in_range("read", request.read_address, request.read_count, MAX_READ)
    _in_range("write", request.address, count, MAX_WRITE_OF_READ_WRITE)
    _all_words(request.words)
    pdu = struct.pack(
        f">BHHHHB{count}H", 23, request.read_address, request.read_count, request.address, count, 2 * count, *request.words
    )
    return Question(pdu, bytes((23, 2 * request.read_count)), 2 + 2 * request.read_count)


def _echoed(pdu: bytes) -> Question:
    return Question(pdu, pdu, len(pdu), returns=False)


def _in_range(verb: str, address: int, count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise ValueError(f"cannot {verb} {count} at once: 1 to {most}")
    if not 0 <= address <= 0x10000 - count:
        raise ValueError(f"cannot {verb} {count} from address {address}: addresses are 0 to 65535")


def _all_words(numbers: Sequence[int]) -> None:
    for number in numbers:
        if not 0 <= number <= 0xFFFF:  # noqa: PLR2004 - sixteen bits
            raise ValueError(f"{number} is no 16-bit word (0 to 65535)")
