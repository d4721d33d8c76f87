"""The journal beside a simple model of it: whatever happens, in whatever order, both come to the same.

Two processes share one file. Premises p0 … p2 have detectors d0 … d5; a reading above the threshold is a fire. What is done is
drawn by hypothesis; after each step the invariants are asked of the file itself.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from iotcore.clock import ManualClock, Uptime
from iotcore.journal import acts, holds
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.progress import Row
from iotcore.journal.records import Batch, Cleared, Committed, Hold, Raise
from tests.support.fire import notice, raise_, reading

PREMISES = 3
DEVICES = 6
CHANNELS = ("arc", "cad")
HOLD = Hold(30.0, 60.0)
devices = st.integers(0, DEVICES - 1)
replicas = st.integers(0, 1)


class Crashed(Exception):
    """The process died before its commit."""


@dataclass
class Model:
    """What must be true: which causes there are, which of them were reset, and which premises burn."""

    causes: set[tuple[str, int]] = field(default_factory=set)  # device, seq of every live fire that was committed
    open_of: dict[str, set[tuple[str, int]]] = field(default_factory=dict)  # premises → the causes of its open episode
    closed: list[set[tuple[str, int]]] = field(default_factory=list)
    last_seq: dict[str, int] = field(default_factory=dict)
    reset_at: dict[str, int] = field(default_factory=dict)  # device → the last number that belongs to the closed episode


class JournalModel(RuleBasedStateMachine):
    """Steps and invariants."""

    folder: tempfile.TemporaryDirectory[str]

    def make(self, owner: str) -> Journal:
        """A process. (A control test plants a bug here.)"""
        return Journal(Path(self.folder.name) / "journal.db", self.clock, CHANNELS, owner, Uptime("m1", self.clock.monotonic_s))

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="iotcore-model-")
        self.clock = ManualClock()
        self.journals = [self.make("fire-1"), self.make("fire-2")]
        self.model = Model()
        self.sent: list[Raise] = []

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            for journal in self.journals:
                journal.close()
            self.folder.cleanup()

    @rule(device=devices, by=replicas, held=st.booleans())
    def burn(self, device: int, by: int, held: bool) -> None:  # noqa: FBT001
        name = f"d{device}"
        seq = self.model.last_seq.get(name, 0) + 1
        self.model.last_seq[name] = seq
        made = replace(raise_(seq, of=notice(name, f"p{device % PREMISES}")), hold=HOLD if held else None)
        self.sent.append(made)
        self._take(made, by, is_stored=True)

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 1_000), by=replicas)
    def say_again(self, which: int, by: int) -> None:
        self._take(self.sent[which % len(self.sent)], by, is_stored=True)

    @rule(device=devices, by=replicas)
    def evaluate_a_stored_reading_only_now(self, device: int, by: int) -> None:
        """A replica that lagged: the reading was stored, and by this one it is a cause."""
        seq = self.model.last_seq.get(f"d{device}", 0)
        if seq:
            self._take(raise_(seq, of=notice(f"d{device}", f"p{device % PREMISES}", rule="heat")), by, is_stored=False)

    @rule(device=devices, by=replicas)
    def die_before_the_commit(self, device: int, by: int) -> None:
        made = raise_(10_000, of=notice(f"d{device}", f"p{device % PREMISES}"))

        def die() -> None:
            with self.journals[by].writing():
                self.journals[by].connection.execute("INSERT INTO presence VALUES (?, 1, 0)", (made.notice.device,))
                raise Crashed

        try:
            die()
        except Crashed:
            self._start_anew(by)

    @rule(by=replicas)
    def restart(self, by: int) -> None:
        self._start_anew(by)

    @rule(premises=st.integers(0, PREMISES - 1), by=replicas)
    def reset(self, premises: int, by: int) -> None:
        place, incident = f"p{premises}", self._open(f"p{premises}")
        its = [f"d{n}" for n in range(DEVICES) if n % PREMISES == premises]
        assert self.journals[by].reset(incident, its, "an", self.clock.wall_ms()) is (place in self.model.open_of)
        if place in self.model.open_of:
            self.model.closed.append(self.model.open_of.pop(place))
            self.model.reset_at |= {name: self.model.last_seq[name] for name in its if name in self.model.last_seq}

    @rule(
        premises=st.integers(0, PREMISES - 1), by=replicas, act=st.sampled_from(["acknowledge", "silence", "confirmed", "denied"])
    )
    def act(self, premises: int, by: int, act: str) -> None:
        journal, incident = self.journals[by], self._open(f"p{premises}")
        before = self._outbox("alarm") + self._outbox("restore")
        with journal.writing() as connection:
            if act == "acknowledge":
                acts.acknowledge(connection, journal.now(), incident, "an", self.clock.wall_ms())
            elif act == "silence":
                acts.silence(connection, incident, "an", self.clock.wall_ms())
            else:
                acts.owner_said(connection, incident, act, "chủ nhà", self.clock.wall_ms())  # type: ignore[arg-type]
        assert self._outbox("alarm") + self._outbox("restore") == before

    @rule(device=devices, by=replicas)
    def clear(self, device: int, by: int) -> None:
        self.journals[by].commit(Batch(cleared_alarms=(Cleared(f"d{device}", "smoke", self.clock.wall_ms()),)))

    @rule(seconds=st.sampled_from([1.0, 31.0, 61.0, 700.0]), by=replicas)
    def time_passes(self, seconds: float, by: int) -> None:
        self.clock.advance(seconds)
        self._announced(holds.release_due(self.journals[by], self.journals[by].now()))

    @rule(channel=st.sampled_from(CHANNELS), by=replicas)
    def deliver(self, channel: str, by: int) -> None:
        outbox, owner = SqlOutbox(self.journals[by]), f"fire-{by + 1}"
        row = outbox.lease(channel, owner, self.clock.wall_ms(), 1000.0)
        if row is None:
            return
        waiting = self._rows(
            "SELECT count(*) FROM outbox WHERE incident = ? AND channel = ? AND id < ? AND acknowledged_ms IS NULL "
            "AND event <> 'update'",
            row.incident, channel, row.id,
        )  # fmt: skip
        assert waiting == [(0,)], "something overtook its alarm"
        outbox.acknowledged(row.id, self.clock.wall_ms(), "ACK")

    def _take(self, made: Raise, by: int, *, is_stored: bool) -> None:
        name, place = made.notice.device, made.notice.premises
        stored = (reading(name, made.seq, smoke=0.4),) if is_stored else ()
        progress = (Row(name, "b1", made.seq, "[]", 0),) if is_stored else ()
        self._announced(self.journals[by].commit(Batch(stored, (made,), progress=progress)))
        cause = (name, made.seq)
        if cause in self.model.causes:
            return
        self.model.causes.add(cause)
        if made.seq <= self.model.reset_at.get(name, 0):
            self.model.closed[-1].add(cause)
        else:
            self.model.open_of.setdefault(place, set()).add(cause)

    def _announced(self, committed: Committed) -> None:
        """What a process is told to send is in the outbox under its name."""
        for row in committed.leased:
            assert self._rows("SELECT event, channel FROM outbox WHERE id = ?", row.id) == [("alarm", row.channel)]

    def _start_anew(self, by: int) -> None:
        self.journals[by].close()
        self.journals[by] = self.make(f"fire-{by + 1}")

    def _open(self, premises: str) -> str:
        found = self._rows("SELECT id FROM incident WHERE premises = ? AND state = 'open'", premises)
        return str(found[0][0]) if found else "none"

    def _outbox(self, event: str) -> list[tuple[object, ...]]:
        return self._rows("SELECT incident, channel, part FROM outbox WHERE event = ? ORDER BY id", event)

    def _rows(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        return [tuple(row) for row in self.journals[0].connection.execute(statement, values).fetchall()]

    @invariant()
    def every_cause_is_in_exactly_one_incident_and_no_incident_is_without_one(self) -> None:
        if not hasattr(self, "model"):
            return
        kept = self._rows("SELECT DISTINCT device, seq FROM cause WHERE incident IS NOT NULL")
        assert set(kept) == self.model.causes
        assert self._rows("SELECT count(*) FROM cause WHERE incident IS NULL") == [(0,)]
        assert self._rows("SELECT id FROM incident WHERE id NOT IN (SELECT incident FROM cause)") == []

    @invariant()
    def the_premises_that_burn_have_one_open_incident_and_the_others_none(self) -> None:
        if not hasattr(self, "model"):
            return
        burning = [row[0] for row in self._rows("SELECT premises FROM incident WHERE state = 'open' ORDER BY premises")]
        assert burning == sorted(self.model.open_of)
        assert self._rows("SELECT count(*) FROM incident") == [(len(self.model.open_of) + len(self.model.closed),)]

    @invariant()
    def every_incident_is_told_once_to_each_unless_it_is_or_was_held_until_its_reset(self) -> None:
        if not hasattr(self, "model"):
            return
        silent = "hold IS NOT NULL OR (state = 'closed' AND held_ms IS NOT NULL AND released_ms IS NULL)"
        untold = f"SELECT id FROM incident WHERE NOT ({silent})"
        for channel in CHANNELS:
            told = f"SELECT incident FROM outbox WHERE channel = '{channel}' AND event = 'alarm'"
            assert sorted(self._rows(untold)) == sorted(self._rows(told)), channel
        assert self._rows(f"SELECT id FROM incident WHERE ({silent}) AND id IN (SELECT incident FROM outbox)") == []
        closed = "SELECT id FROM incident WHERE state = 'closed' AND id IN (SELECT incident FROM outbox)"
        assert sorted(self._rows(closed)) == sorted(self._rows("SELECT DISTINCT incident FROM outbox WHERE event = 'restore'"))

    @invariant()
    def no_notice_stands_before_its_alarm_and_no_alarm_stands_twice(self) -> None:
        if not hasattr(self, "model"):
            return
        early = (
            "SELECT later.id FROM outbox AS later WHERE later.event <> 'alarm' AND NOT EXISTS (SELECT 1 FROM outbox AS first "
            "WHERE first.event = 'alarm' AND first.incident = later.incident AND first.channel = later.channel "
            "AND first.id < later.id)"
        )
        assert self._rows(early) == []
        assert self._rows("SELECT device, rule FROM alarm WHERE state = 'active' GROUP BY device, rule HAVING count(*) > 1") == []
        assert (
            self._rows(
                "SELECT id FROM alarm WHERE state = 'active' AND incident IN (SELECT id FROM incident WHERE state = 'closed')"
            )
            == []
        )
