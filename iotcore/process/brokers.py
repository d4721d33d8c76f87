"""A broker as a process of ours. Kept out of app.py: without its imports two processes start in a fifth of time and memory."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from iotcore import metrics
from iotcore.clock import SystemClock
from iotcore.errors import StartError
from iotcore.process import home
from iotcore.process.metrics_http import MetricsListener
from iotcore.process.serve import beat
from iotcore.provision import broker_process, embedded_broker
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import choose
from iotcore.provision.broker_figures import Figures
from iotcore.provision.broker_watch import BrokerWatch, Seen
from iotcore.settings import Settings

log = logging.getLogger(__name__)


async def run(settings: Settings, name: BrokerName) -> None:
    """Serve until cancelled.

    Raises:
        StartError: the settings say that somebody else runs it, or it cannot start.
    """
    watch = BrokerWatch(SystemClock(), lambda said: log.critical("the %s broker: %s", name.value, said))
    figures: list[Figures] = []  # the last, when there is one
    _measure(name.value, watch, figures)
    chosen = choose(home.broker_settings(settings, name).run)
    broker = home.broker_home(settings, name)
    if chosen == "external":
        raise StartError(f"The {name.value} broker is external by the settings", "Start it where it runs.")
    process = f"broker-{name.value}"
    beside = {
        asyncio.create_task(MetricsListener(settings.metrics, process).run()),
        asyncio.create_task(beat(settings.folder, process, SystemClock(), lambda: state(watch.seen(), figures))),
    }
    try:
        if chosen == "amqtt":
            await embedded_broker.run(broker, log.warning)
        else:
            await broker_process.run(broker, hear=watch.hear, told=lambda now: figures.__setitem__(slice(None), [now]))
    finally:
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)


def state(seen: Seen, figures: Sequence[Figures]) -> dict[str, Any]:
    """What the broker's process says of it, for the keeper, the doctor and the fire lane."""
    return {
        "clones": [asdict(one) for one in seen.clones],
        "burst": asdict(seen.burst) if seen.burst else None,
        "overflows": list(seen.overflows),
        **({"dropped": figures[0].dropped, "clients": figures[0].clients} if figures else {}),
    }


def _measure(name: str, watch: BrokerWatch, figures: Sequence[Figures]) -> None:
    """Let Prometheus ask."""
    metrics.broker_clones.ask(lambda: float(len(watch.seen().clones)), name)
    metrics.broker_refused.ask(lambda: float(watch.seen().refused), name)
    metrics.broker_burst.ask(lambda: float(watch.seen().burst is not None), name)
    metrics.broker_dropped.ask(lambda: float(figures[0].dropped) if figures else math.nan, name)
    metrics.broker_clients.ask(lambda: float(figures[0].clients) if figures else math.nan, name)
