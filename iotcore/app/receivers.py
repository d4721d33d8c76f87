"""Who hears of fires, wired from the settings: a channel for each receiver, and how the dispatcher uses it."""

from __future__ import annotations

from collections.abc import Mapping

from iotcore.clock import Clock
from iotcore.dispatch.cad_webhook import WebhookChannel
from iotcore.dispatch.outbox import Channel, Way
from iotcore.dispatch.sia_dc09 import Dc09Channel
from iotcore.settings import Settings
from iotcore.settings_receivers import Dc09Receiver, Receiver, primaries


def channel_of(receiver: Receiver, clock: Clock) -> Channel:
    """The channel to one receiver."""
    if isinstance(receiver, Dc09Receiver):
        return Dc09Channel(receiver, clock)
    return WebhookChannel(receiver, clock)


def channels_of(settings: Settings, clock: Clock) -> dict[str, Channel]:
    """One channel for each receiver."""
    return {receiver.name: channel_of(receiver, clock) for receiver in settings.receivers}


def told_of_all(settings: Settings) -> list[str]:
    """The receivers that every incident is posted to; an alternate path hears of what its primary does not answer."""
    return [receiver.name for receiver in primaries(settings.receivers)]


def ways_of(settings: Settings) -> Mapping[str, Way]:
    """How each channel is used."""
    return {receiver.name: Way(receiver.parallel, receiver.alternate, receiver.hedge_s) for receiver in settings.receivers}
