"""A unit between its line and the outbox: what is asked, what is told, and what is never believed."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from drivers.modbus.questions import Fault, Reply
from drivers.modbus.told import parts
from drivers.modbus.unit import Outcome, Purpose, Told, Unit
from iotcore.reading import Quality, Scalar, Value
from iotcore.specs.model import DeviceSpec, Firmware, ModbusWire, Point, Revision
from iotcore.specs.model import TestMark as Mark
from iotcore.wire.messages import ReadingMessage, encode
from iotcore.wire.modbus_address import parse

POLL_S, INTERVAL_S = 1.0, 60.0


def _holding(address: int, kind: str = "uint16", **more: object) -> ModbusWire:
    return ModbusWire("holding", address, kind, **more)  # type: ignore[arg-type]


PANEL = DeviceSpec(
    model="panel", vendor="v", title="t", device_class="fire_panel", protocol="modbus", source="s", verified="v",
    interval_s=INTERVAL_S,
    points={
        "alarm": Point(kind="bool", modbus=_holding(0, bit=0), poll_s=POLL_S),
        "smoke": Point(modbus=_holding(1), poll_s=POLL_S, deadband=5.0),
        "far_alarm": Point(kind="bool", modbus=_holding(500, bit=0), poll_s=POLL_S),
        "voltage": Point(modbus=_holding(900), lane="bulk", scale=0.1, deadband=1.0),
        "hours": Point(modbus=_holding(901), lane="bulk", poll_s=10.0),
    },
)  # fmt: skip


@dataclass
class Play:
    """A unit that is answered from `words`; `poll` asks one of its jobs through, as a line does."""

    spec: DeviceSpec
    connection: str = "tcp://h:1?device_id=1"
    words: dict[int, int] = field(default_factory=dict)
    now_s: float = 0.0
    purposes: list[Purpose] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.unit = Unit("u", "fire", self.spec, parse(self.connection))

    def poll(self, group: int = 0) -> list[Told]:
        """One poll of a group, after another second."""
        self.now_s += 1.0
        told = []
        step = 0
        while True:
            job = self.unit.jobs()[group]
            if step >= job.steps:
                break
            purpose, question = self.unit.question(job, step, self.now_s)
            self.purposes.append(purpose)
            address, count = int.from_bytes(question.pdu[1:3]), int.from_bytes(question.pdu[3:5])
            words = [self.words.get(address + i) for i in range(count)]
            known = [word for word in words if word is not None]
            reply = Reply(known) if len(known) == count else Reply(why="exception:2", fault=Fault.EXCEPTION)
            outcome = self.unit.heard(purpose, job, step, reply, self.now_s)
            if outcome is Outcome.END:
                break
            if outcome is Outcome.NEXT:
                step += 1
                event = self.unit.event(job, step - 1) if job.fire and step < job.steps else None
                told += [event] if event else []
        last = self.unit.ended(self.unit.jobs()[group], self.now_s)
        return told + ([last] if last else [])


def _play(**words: int) -> Play:
    return Play(PANEL, words={0: 0, 1: 100, 500: 0, 900: 240, 901: 7} | {int(key[1:]): word for key, word in words.items()})


def _dict(told: Told) -> dict[str, object]:
    return {value.point: value.value for value in told.values}


def test_the_first_poll_tells_all_points_of_its_group_and_then_only_each_interval() -> None:
    play = _play()
    assert [_dict(told) for told in play.poll()] == [{"alarm": False, "smoke": 100.0, "far_alarm": False}]
    told = [play.poll() for _ in range(125)]
    assert [(n, len(each[0].values), each[0].is_event) for n, each in enumerate(told, start=1) if each] == [
        (60, 3, False),
        (120, 3, False),
    ]


def test_a_fire_is_told_by_the_request_that_saw_it_alone_and_at_once() -> None:
    play = _play()
    play.poll()
    play.words[0] = 1
    assert [(_dict(told), told.is_event) for told in play.poll()] == [({"alarm": True}, True)]
    play.words[500] = 1
    assert [(_dict(told), told.is_event) for told in play.poll()] == [({"far_alarm": True}, True)]
    assert play.poll() == []
    play.words[0] = 0
    assert [(_dict(told), told.is_event) for told in play.poll()] == [({"alarm": False}, True)]


def test_a_number_is_told_when_it_leaves_its_deadband_around_what_was_told() -> None:
    play = _play()
    play.poll()
    told = []
    for smoke in (103, 105, 106, 108, 101, 100):
        play.words[1] = smoke
        told.append([_dict(each) for each in play.poll()])
    assert told == [[], [], [{"smoke": 106.0}], [], [], [{"smoke": 100.0}]]


def test_a_slow_number_without_a_deadband_waits_for_the_interval() -> None:
    play = _play()
    group = next(job.group for job in play.unit.jobs() if job.poll_s == 10.0)
    assert len(play.poll(group)) == 1
    play.words[901] = 8
    assert play.poll(group) == []
    play.now_s += INTERVAL_S
    assert _dict(play.poll(group)[0]) == {"hours": 8.0}


def test_an_exception_fails_its_own_points_at_once_and_they_come_back_at_once() -> None:
    play = _play()
    play.poll()
    del play.words[500]
    (told,) = play.poll()
    assert (told.values, told.is_event) == ((Value("far_alarm", None, Quality.BAD, "exception:2"),), True)
    assert play.unit.failing == "exception:2"
    play.words[500] = 0
    (told,) = play.poll()
    assert (_dict(told), play.unit.failing) == ({"far_alarm": False}, "")


def test_what_a_silent_unit_said_before_is_never_told_again() -> None:
    play = _play()
    play.poll()
    job = play.unit.jobs()[0]
    play.unit.heard(Purpose.STEP, job, 0, Reply([1, 100]), 2.0)  # the first of two requests, then silence
    play.unit.lost()
    told = play.unit.ended(job, 2.0, "timeout")
    assert told is not None
    assert {value.point: (value.value, value.why) for value in told.values} == {
        "alarm": (True, ""),
        "far_alarm": (None, "timeout"),
    }
    told = play.unit.ended(job, 3.0, "timeout")
    assert told is not None
    assert {value.point: value.why for value in told.values} == {"alarm": "timeout", "smoke": "timeout"}
    assert all(value.value is None for value in told.values)
    assert play.unit.ended(job, 4.0, "timeout") is None
    told = play.unit.ended(job, 70.0, "timeout")
    assert told is not None
    assert len(told.values) == 3  # and each interval


def test_a_lost_message_is_told_again_whole() -> None:
    play = _play()
    play.poll()
    play.unit.forget()
    assert len(play.poll()[0].values) == 3


MOVED = Point(kind="bool", modbus=_holding(50, bit=3), poll_s=POLL_S)
VERSIONED = replace(
    PANEL,
    points={"alarm": Point(kind="bool", modbus=_holding(0, bit=0), poll_s=POLL_S)},
    firmware=Firmware(
        base=("1.*", "1"),
        modbus=_holding(300),
        revisions=(Revision(("2", "3"), "moved", points={"alarm": MOVED}),),
    ),
)


def test_a_unit_is_read_by_the_layout_of_the_version_it_tells() -> None:
    play = Play(VERSIONED, words={0: 1, 50: 0, 300: 1})
    assert [_dict(told) for told in play.poll()] == [{"alarm": True}]
    assert (play.purposes, play.unit.version) == ([Purpose.VERSION, Purpose.STEP], "1")
    play.purposes.clear()
    play.poll()
    assert play.purposes == [Purpose.STEP]
    play.words[300] = 3
    play.unit.lost()  # somebody changed the panel
    assert [_dict(told) for told in play.poll()] == [{"alarm": False}]
    assert play.unit.version == "3"


def test_the_version_is_asked_again_each_interval() -> None:
    play = Play(VERSIONED, words={0: 1, 50: 0, 300: 1})
    for _ in range(130):
        play.poll()
    assert play.purposes.count(Purpose.VERSION) == 3


def test_a_version_that_the_spec_does_not_know_is_trouble_and_no_guess() -> None:
    play = Play(VERSIONED, words={0: 1, 50: 8, 300: 9})
    (told,) = play.poll()
    assert (told.values, play.unit.version) == ((Value("alarm", None, Quality.BAD, "unknown_firmware"),), "9")
    assert play.poll() == []  # trouble is told once, then each interval
    play.words[300] = 2
    assert _dict(play.poll()[0]) == {"alarm": True}


def test_a_version_that_cannot_be_read_is_no_version() -> None:
    play = Play(VERSIONED, words={0: 1, 50: 8, 300: 1})
    play.poll()
    del play.words[300]
    play.unit.lost()
    (told,) = play.poll()
    assert (told.values, play.unit.version) == ((Value("alarm", None, Quality.BAD, "exception:2"),), "")
    play.words[300] = 1
    assert _dict(play.poll()[0]) == {"alarm": True}


def test_a_version_given_with_the_connection_is_not_asked() -> None:
    play = Play(VERSIONED, "tcp://h:1?firmware=2", words={50: 8})
    assert _dict(play.poll()[0]) == {"alarm": True}
    assert (play.purposes, play.unit.version) == ([Purpose.STEP], "2")


def test_a_given_version_that_is_unknown_is_never_asked_anything() -> None:
    unit = Unit("u", "fire", VERSIONED, parse("tcp://h:1?firmware=9"))
    assert {job.steps for job in unit.jobs()} == {0}
    told = unit.ended(unit.jobs()[0], 1.0)
    assert told is not None
    assert told.values == (Value("alarm", None, Quality.BAD, "unknown_firmware"),)


def test_the_test_mark_counts_in_its_own_poll_only() -> None:
    marked = replace(PANEL, test=Mark("alarm", (True,)))
    play = Play(marked, words={0: 1, 1: 0, 500: 1, 900: 240, 901: 7})
    assert [told.test for told in play.poll()] == [True]
    play.words[0] = 0
    assert [told.test for told in play.poll()] == [False]
    play.words[0] = 1
    play.poll()
    voltage = next(job.group for job in play.unit.jobs() if job.poll_s == INTERVAL_S)
    assert [told.test for told in play.poll(voltage)] == [False]


def test_on_a_serial_line_a_unit_that_failed_is_first_asked_what_no_late_answer_fits() -> None:
    play = Play(PANEL, "rtu:///dev/ttyS0", words=dict.fromkeys(range(1000), 0))
    play.poll()
    sizes = {step.question.size for read in play.unit.layout.reads for step in read.steps}
    play.unit.lost()
    purpose, question = play.unit.question(play.unit.jobs()[0], 0, play.now_s)
    assert purpose is Purpose.PROBE
    assert question.size not in sizes
    play.purposes.clear()
    play.poll()
    assert play.purposes[:2] == [Purpose.PROBE, Purpose.STEP]


def test_values_that_should_move_and_do_not_are_bad() -> None:
    watched = replace(
        PANEL,
        points={
            "life": Point(modbus=_holding(0), poll_s=POLL_S, stuck_after_s=5.0),
            "alarm": Point(kind="bool", modbus=_holding(1, bit=0), poll_s=POLL_S),
        },
        life_check="life",
    )
    play = Play(watched, words={0: 1, 1: 0})
    told = [each for _ in range(10) for each in play.poll()]
    assert {value.point: value.why for value in told[-1].values} == {"life": "stuck", "alarm": "life_check"}
    play.words[0] = 2
    assert {value.point: value.quality for value in play.poll()[0].values} == {"life": Quality.GOOD, "alarm": Quality.GOOD}


@given(st.lists(st.tuples(st.text(max_size=250) | st.floats() | st.booleans() | st.none(), st.integers(0, 64)), max_size=800))
def test_whatever_is_told_goes_out_whole_in_messages_that_fit(said: list[tuple[Scalar | None, int]]) -> None:
    values = tuple(
        Value(f"point_{n}", value, Quality.BAD if why else Quality.GOOD, "x" * why) for n, (value, why) in enumerate(said)
    )
    found = list(parts(values))
    assert tuple(value for part in found for value in part) == values
    for part in found:
        assert 0 < len(part) <= 250
        q = {value.point: f"bad:{value.why}" for value in part if value.why}
        message = ReadingMessage(boot="b", seq=1, values={value.point: value.value for value in part}, q=q, fw="f" * 64)
        if not any(isinstance(value.value, str) and not value.value.isprintable() for value in part):
            assert len(encode(message)) <= 64 * 1024
