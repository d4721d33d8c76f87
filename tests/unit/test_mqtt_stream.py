"""The stream of a connection: flow control by the inbox, and acknowledgements in order, once, and never on another connection."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from drivers.mqtt import packets
from drivers.mqtt.inbox import Inbox
from drivers.mqtt.publishes import Topics
from drivers.mqtt.stream import BUFFER_BYTES, LinkLost, Stream
from iotcore.clock import ManualClock
from iotcore.wire.arrival import Arrival

FIRST = 1_000


class Recorder(asyncio.Transport):
    """Writes down what a stream asks of its socket."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.aborted = True


def stream_into(inbox: Inbox, others: list[bytes] | None = None) -> tuple[Stream, Recorder]:
    """A connected stream; `others` gets its packets that are no PUBLISH."""
    kept: list[bytes] = [] if others is None else others
    stream = Stream(
        inbox,
        ManualClock(),
        Topics(),
        FIRST,
        five=True,
        on_packet=lambda chunk, packet: kept.append(chunk[packet.start - 2 : packet.end]),
    )
    socket = Recorder()
    stream.connection_made(socket)
    return stream, socket


def feed(stream: Stream, wire: bytes) -> None:
    """As asyncio does it: as much as there is room for at a time."""
    while wire:
        room = stream.get_buffer(-1)
        part = wire[: len(room)]
        room[: len(part)] = part
        stream.buffer_updated(len(part))
        wire = wire[len(part) :]


def publishes(*numbers: int, size: int = 1) -> bytes:
    return b"".join(packets.publish("a", str(n).encode().rjust(size), n, five=True) for n in numbers)


def acknowledged(socket: Recorder) -> list[int]:
    """The packet identifiers of the PUBACKs written so far."""
    assert socket.written[::4] == b"\x40" * (len(socket.written) // 4)
    return [int.from_bytes(socket.written[i + 2 : i + 4], "big") for i in range(0, len(socket.written), 4)]


async def test_a_batch_is_acknowledged_in_one_piece_and_in_order() -> None:
    inbox = Inbox(100, 10_000)
    stream, socket = stream_into(inbox)
    feed(stream, publishes(5, 9, 7))
    stream.acknowledge(inbox.take(10))
    assert acknowledged(socket) == [5, 9, 7]
    assert stream.unacknowledged == 0


async def test_what_is_acknowledged_early_waits_for_what_came_before_it() -> None:
    inbox = Inbox(100, 10_000)
    stream, socket = stream_into(inbox)
    feed(stream, publishes(1, 2, 3, 4))
    one, two, three, four = inbox.take(10)
    stream.acknowledge([three])
    stream.acknowledge([two])
    assert acknowledged(socket) == []
    stream.acknowledge([one])
    assert acknowledged(socket) == [1, 2, 3]
    stream.acknowledge([four])
    assert acknowledged(socket) == [1, 2, 3, 4]


async def test_an_arrival_acknowledged_twice_or_of_another_connection_is_passed_over() -> None:
    inbox = Inbox(100, 10_000)
    stream, socket = stream_into(inbox)
    feed(stream, publishes(1, 2, 3))
    arrivals = inbox.take(10)
    stream.acknowledge(arrivals[:2])
    stream.acknowledge(arrivals[:2])
    stream.acknowledge([Arrival("a", b"", retained=False, received_ms=0.0, token=FIRST + n) for n in (-1, 50)])
    assert acknowledged(socket) == [1, 2]
    stream.acknowledge(arrivals)
    assert acknowledged(socket) == [1, 2, 3]


@given(st.lists(st.integers(0, 29), max_size=60))
def test_in_whatever_order_a_lane_acknowledges_the_broker_sees_arrival_order(order: list[int]) -> None:
    async def play() -> None:
        inbox = Inbox(100, 10_000)
        stream, socket = stream_into(inbox)
        feed(stream, publishes(*range(1, 31)))
        arrivals = inbox.take(100)
        for i in order:
            stream.acknowledge([arrivals[i]])
        done = next(n for n in range(31) if n == 30 or n not in order)
        assert acknowledged(socket) == list(range(1, done + 1))

    asyncio.run(play())


async def test_a_full_inbox_stops_the_reading_and_half_an_inbox_starts_it_again() -> None:
    inbox = Inbox(4, 10_000)
    stream, socket = stream_into(inbox)
    feed(stream, publishes(*range(1, 11)))
    assert (len(inbox), socket.reading, stream.paused) == (4, False, True)
    taken = inbox.take(1)
    assert not socket.reading  # one place is not worth it
    taken += inbox.take(1)
    assert (len(inbox), socket.reading) == (4, False)  # the buffer had more, and that has filled it again
    while not socket.reading:
        taken += inbox.take(2)
    taken += inbox.take(10)
    assert [int(arrival.payload) for arrival in taken] == list(range(1, 11))


async def test_an_inbox_is_full_by_bytes_too_but_never_too_small_for_one_message() -> None:
    inbox = Inbox(100, 1_000)
    stream, socket = stream_into(inbox)
    feed(stream, publishes(1, size=5_000))
    assert len(inbox) == 1
    feed(stream, publishes(2))
    assert (len(inbox), socket.reading) == (1, False)
    assert len(inbox.take(1)) == 1
    assert (len(inbox), socket.reading) == (1, True)


async def test_a_packet_larger_than_the_buffer_and_one_in_single_bytes_come_whole() -> None:
    inbox = Inbox(100, 10 * BUFFER_BYTES)
    stream, _ = stream_into(inbox)
    feed(stream, publishes(1, size=3 * BUFFER_BYTES))
    for byte in publishes(2):
        feed(stream, bytes([byte]))
    assert [int(arrival.payload) for arrival in inbox.take(10)] == [1, 2]


async def test_other_packets_between_publishes_are_handed_over() -> None:
    others: list[bytes] = []
    inbox = Inbox(100, 10_000)
    stream, _ = stream_into(inbox, others)
    feed(stream, publishes(1) + b"\xd0\x00" + publishes(2) + b"\x40\x02\x00\x07" + publishes(3))
    assert others == [b"\xd0\x00", b"\x40\x02\x00\x07"]
    assert len(inbox) == 3


async def test_bytes_that_are_no_mqtt_end_the_connection_with_what_and_where() -> None:
    stream, socket = stream_into(Inbox(100, 10_000))
    feed(stream, b"\x32\x05\x00\x01a\x00\x00\x00"[:2] + b"\x00\x01a\x00\x00")
    assert "properties are longer" in str(stream.ended.result())
    assert socket.aborted
    stream, _ = stream_into(Inbox(100, 10_000))
    feed(stream, packets.publish("a", b"", 0, five=True))
    assert "packet identifier 0" in str(stream.ended.result())


async def test_nothing_is_taken_in_or_acknowledged_after_the_end() -> None:
    inbox = Inbox(2, 10_000)
    stream, socket = stream_into(inbox)
    feed(stream, publishes(1, 2, 3))
    stream.end(LinkLost("silent", "a test"))
    arrivals = inbox.take(10)
    stream.acknowledge(arrivals)
    assert (len(arrivals), len(inbox), socket.written) == (2, 0, b"")


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 400)), max_size=12), st.lists(st.integers(1, 12), max_size=20))
def test_an_empty_inbox_holds_no_bytes_whatever_was_put_and_taken(puts: list[tuple[int, int]], takes: list[int]) -> None:
    inbox = Inbox(1_000, 1_000_000)
    arrivals = [Arrival("a", b"", retained=False, received_ms=0.0, token=i) for i in range(sum(count for count, _ in puts))]
    left, taken = list(arrivals), []
    for count, size in puts:
        inbox.put(left[:count], size)
        del left[:count]
        if takes:
            taken += inbox.take(takes.pop())
    for limit in takes:
        taken += inbox.take(limit)
    taken += inbox.take(len(inbox) or 1)
    assert taken == arrivals
    assert inbox._bytes == 0
    assert not inbox._portions
