"""Who hears of fires, wired from the settings: how the dispatcher uses each channel, and what watches over them."""

from __future__ import annotations

from collections.abc import Mapping

from iotcore.clock import Clock
from iotcore.dispatch.outbox import Channel, Dispatcher, Way
from iotcore.dispatch.paths import Paths, Watched
from iotcore.dispatch.sia_dc09 import Dc09Channel
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.path_watch import SqlPaths
from iotcore.settings import Settings
from iotcore.settings_receivers import Dc09Receiver, alternates, primaries


def told_of_all(settings: Settings) -> list[str]:
    """The receivers that every incident is posted to; an alternate path hears of what its primary does not answer."""
    return [receiver.name for receiver in primaries(settings.receivers)]


def ways_of(settings: Settings) -> Mapping[str, Way]:
    """How each channel is used."""
    return {receiver.name: Way(receiver.parallel, receiver.alternate, receiver.hedge_s) for receiver in settings.receivers}


def paths_of(settings: Settings, channels: Mapping[str, Channel], journal: Journal, clock: Clock) -> Paths:
    """The watch over the paths that can be tested."""
    watched = {
        receiver.name: Watched(channel, receiver.supervise_s, receiver.fault_s)
        for receiver in settings.receivers
        if isinstance(receiver, Dc09Receiver) and receiver.supervise_s
        for channel in [channels[receiver.name]]
        if isinstance(channel, Dc09Channel)
    }
    return Paths(SqlPaths(journal, clock), watched, alternates(settings.receivers), clock)


def dispatching(
    settings: Settings, channels: Mapping[str, Channel], journal: Journal, clock: Clock, owner: str
) -> tuple[Dispatcher, Paths]:
    """What carries notices to the receivers, and what watches over the paths."""
    paths = paths_of(settings, channels, journal, clock)
    outbox, ways = SqlOutbox(journal), ways_of(settings)
    return Dispatcher(outbox, channels, clock, owner, ways=ways, down=paths.down, heard=paths.heard), paths
