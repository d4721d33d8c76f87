"""A broker as a process of ours. Kept out of app.py: without its imports two processes start in a fifth of time and memory."""

from __future__ import annotations

import asyncio
import logging

from iotcore.errors import StartError
from iotcore.process import home
from iotcore.process.metrics_http import MetricsListener
from iotcore.provision import broker_process, embedded_broker
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import choose
from iotcore.settings import Settings

log = logging.getLogger(__name__)


async def run(settings: Settings, name: BrokerName) -> None:
    """Serve until cancelled.

    Raises:
        StartError: the settings say that somebody else runs it, or it cannot start.
    """
    chosen = choose(home.broker_settings(settings, name).run)
    broker = home.broker_home(settings, name)
    if chosen == "external":
        raise StartError(f"The {name.value} broker is external by the settings", "Start it where it runs.")
    measuring = asyncio.create_task(MetricsListener(settings.metrics, f"broker-{name.value}").run())
    try:
        if chosen == "amqtt":
            await embedded_broker.run(broker, log.warning)
        else:
            await broker_process.run(broker)
    finally:
        measuring.cancel()
        await asyncio.wait({measuring})
