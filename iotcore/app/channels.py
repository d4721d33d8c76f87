"""One channel for each receiver of the settings."""

from __future__ import annotations

from pathlib import Path

from iotcore.clock import Clock
from iotcore.dispatch.cad_webhook import WebhookChannel
from iotcore.dispatch.cap import CapChannel
from iotcore.dispatch.outbox import Channel
from iotcore.dispatch.sia_dc09 import Dc09Channel
from iotcore.process import home
from iotcore.settings import Settings
from iotcore.settings_channels import CapReceiver
from iotcore.settings_receivers import Dc09Receiver, Receiver


def channels_of(settings: Settings, clock: Clock) -> dict[str, Channel]:
    """By the receivers' names."""
    return {receiver.name: _channel(receiver, settings, clock) for receiver in settings.receivers}


def _channel(receiver: Receiver, settings: Settings, clock: Clock) -> Channel:
    match receiver:
        case Dc09Receiver():
            return Dc09Channel(receiver, clock)
        case CapReceiver():
            return CapChannel(receiver, clock, *_signs(receiver, settings))
        case _:
            return WebhookChannel(receiver, clock)


def _signs(receiver: CapReceiver, settings: Settings) -> tuple[Path, Path]:
    """The certificate and key that sign CAP messages: those that were given, else those that sign our papers."""
    if receiver.cert_file:
        return Path(receiver.cert_file), Path(receiver.key_file)
    certs = settings.folder / "certs"
    return certs / f"{home.PAPERS}.pem", certs / f"{home.PAPERS}.key"
