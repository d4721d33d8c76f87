"""Who hears of fires, wired from the settings: how the dispatcher uses each channel, and what watches over them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence

import msgspec

from iotcore import settings_receivers
from iotcore.app.lesser_notices import of_work
from iotcore.clock import Clock
from iotcore.dispatch.outbox import Channel, Dispatcher, Way
from iotcore.dispatch.paths import Paths, Watched
from iotcore.dispatch.sealed import Sealed
from iotcore.dispatch.sia_dc09 import Dc09Channel
from iotcore.dispatch.troubles import Listener, Troubles
from iotcore.errors import ConfigError
from iotcore.journal.journal import Journal
from iotcore.journal.outbox import SqlOutbox
from iotcore.journal.path_watch import SqlPaths
from iotcore.journal.telling import SqlTold
from iotcore.journal.told import OUTAGES
from iotcore.process.credentials import environment
from iotcore.registry.directory import Directory
from iotcore.settings import Settings
from iotcore.settings_receivers import Dc09Receiver, Receiver, alternates, primaries

log = logging.getLogger(__name__)


def with_secrets(settings: Settings) -> Settings:
    """The settings with the sealed secrets that receivers name in place of the names; refused whole when one cannot be opened.

    Raises:
        ConfigError: with every one.
    """
    opened = Sealed(settings.folder, environment(os.environ)).opened(settings.receivers, "settings")
    if problems := list(settings_receivers.problems(opened, "settings")):
        raise ConfigError(problems)
    return msgspec.structs.replace(settings, receivers=opened)


def answering(settings: Settings) -> Sequence[Receiver]:
    """The receivers with their secrets; none while one cannot be opened: the page is there all the same."""
    try:
        return with_secrets(settings).receivers
    except ConfigError as error:
        log.error("what receivers answer is refused: %s", error)  # noqa: TRY400 - it says what to do
        return ()


def told_of_all(settings: Settings) -> list[str]:
    """The receivers that every incident is posted to; an alternate path hears of what its primary does not answer."""
    return [receiver.name for receiver in primaries(settings.receivers)]


def callers_of(settings: Settings) -> list[str]:
    """The receivers that reach people by their telephone number."""
    return [receiver.name for receiver in settings.receivers if receiver.__struct_config__.tag in {"sms", "voice"}]


def centres_of(settings: Settings) -> list[str]:
    """The receivers whose programs read facts that come after an alarm; people and alarm centres are not told of each."""
    return [receiver.name for receiver in settings.receivers if receiver.__struct_config__.tag in {"cad_webhook", "cap", "mqtt"}]


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


def troubles_of(
    settings: Settings, channels: Mapping[str, Channel], journal: Journal, directory: Callable[[], Directory], clock: Clock
) -> Troubles:
    """What tells receivers of less than fires; an alternate path hears of nothing that is out of service: its primary does."""
    primary = set(told_of_all(settings))
    listeners = {
        receiver.name: Listener(channel, kinds)
        for receiver in settings.receivers
        if isinstance(receiver, Dc09Receiver)
        for kinds in [frozenset(receiver.tells) - {"fire"} - (frozenset() if receiver.name in primary else frozenset(OUTAGES))]
        if kinds
        for channel in [channels[receiver.name]]
        if isinstance(channel, Dc09Channel)
    }
    accounts = {receiver.name: receiver.account for receiver in settings.receivers if isinstance(receiver, Dc09Receiver)}
    return Troubles(SqlTold(journal), listeners, lambda work: of_work(work, directory(), accounts[work.channel]), clock)


def dispatching(
    settings: Settings, channels: Mapping[str, Channel], journal: Journal, clock: Clock, owner: str
) -> tuple[Dispatcher, Paths]:
    """What carries notices to the receivers, and what watches over the paths."""
    paths = paths_of(settings, channels, journal, clock)
    outbox, ways = SqlOutbox(journal), ways_of(settings)
    return Dispatcher(outbox, channels, clock, owner, ways=ways, down=paths.down, heard=paths.heard), paths
