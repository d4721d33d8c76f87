"""What the demo says on a terminal: progress while it sets up, then the timeline of an incident, moment by moment."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from iotcore.journal.timeline import Timeline
from iotcore.reading import Scalar

VIETNAM = timezone(timedelta(hours=7), "ICT")  # Asia/Ho_Chi_Minh has had no summer time since 1975
NAMES = {
    "detector": "detector",
    "received": "received",
    "decided": "decided",
    "durable": "durable",
    "sent": "sent",
    "receiver_acknowledged": "acknowledged by receiver",
}


class Screen:
    """Writes to `console`; when JSON is wanted on stdout, that console is stderr."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        """One line; a terminal breaks it between words, a file keeps it whole."""
        self.console.print(text, highlight=False, soft_wrap=not self.console.is_terminal)

    def up(self, page: str, mqtt_devices: int, modbus_stations: int) -> None:
        """Where to look now."""
        self.say(f"\nThe city is up: [bold]{page}[/]   ({mqtt_devices} MQTT devices, {modbus_stations} Modbus stations)")

    def loud(self, text: str) -> None:
        """One line nobody can miss."""
        self.console.print(f" {text} ", style="bold white on red", highlight=False)

    @contextmanager
    def steps(self) -> Iterator[Steps]:
        """A progress display for the set-up; where there is no terminal, a line for each step."""
        columns = (
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            yield Steps(progress, self)

    def timeline(self, story: Timeline) -> None:
        """The incident's moments, with the milliseconds between them."""
        notice = story.notice
        self.say(f"\n[bold red]FIRE[/]  {story.incident}  [bold]{notice.premises_name}[/]")
        for line in (notice.address, ", ".join(part for part in (notice.floor, notice.zone_name) if part)):
            if line:
                self.say(f"      [bold]{line}[/]")
        said = f"{notice.device}: {notice.point} {_value(notice.value)} {notice.unit}".rstrip()
        self.say(f"      {said}  ({notice.rule}: {notice.reason})\n")
        before = None
        for name, at_ms in story.moments():
            step = "" if before is None else f"+{at_ms - before:9.3f} ms"
            extra = ""
            if name == "receiver_acknowledged":
                extra = "  ← " + ", ".join(d.channel for d in story.deliveries if d.event == "alarm" and d.acknowledged_ms)
            self.say(f"      {clock_time(at_ms)}  {step:>13}  {NAMES[name]}{extra}")
            before = at_ms
        total = story.latencies_ms().get("detector_to_receiver_acknowledged")
        if total is not None:
            self.say(f"      {'':12}  [bold]{total:10.3f} ms[/]  from the detector to its acknowledgement\n")


class Steps:
    """Named steps of a set-up, each with how far it is."""

    def __init__(self, progress: Progress, screen: Screen) -> None:
        self._progress = progress
        self._screen = screen

    @contextmanager
    def step(self, text: str, total: int = 1) -> Iterator[Step]:
        """A step; complete when its block ends well."""
        began_s = time.monotonic()
        task = self._progress.add_task(text, total=total)
        yield Step(self._progress, task)
        self._progress.update(task, completed=total)
        if self._progress.disable:
            self._screen.say(f"  ✓ {text}  {time.monotonic() - began_s:.1f} s")


class Step:
    """One step under way."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self) -> None:
        """One more of its parts is done."""
        self._progress.advance(self._task)

    def at(self, done: int) -> None:
        """So many of its parts are done."""
        self._progress.update(self._task, completed=done)


def clock_time(at_ms: float) -> str:
    """Wall time in Vietnam, to the millisecond."""
    at = datetime.fromtimestamp(at_ms / 1000.0, UTC).astimezone(VIETNAM)
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"


def _value(value: Scalar | None) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
