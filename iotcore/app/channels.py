"""One channel for each receiver of the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from iotcore.clock import Clock
from iotcore.dispatch.cad_webhook import WebhookChannel
from iotcore.dispatch.cap import CapChannel
from iotcore.dispatch.http_gateway import Said, SmsChannel, VoiceChannel
from iotcore.dispatch.mail import MailChannel
from iotcore.dispatch.mqtt_out import MqttChannel
from iotcore.dispatch.outbox import Channel
from iotcore.dispatch.sia_dc09 import Dc09Channel
from iotcore.process import home
from iotcore.settings import Settings
from iotcore.settings_channels import CapReceiver, MailReceiver, MqttReceiver, SmsReceiver, VoiceReceiver
from iotcore.settings_receivers import Dc09Receiver, Receiver, WebhookReceiver


def channels_of(settings: Settings, clock: Clock) -> dict[str, Channel]:
    """By the receivers' names."""
    return {receiver.name: _channel(receiver, settings, clock) for receiver in settings.receivers}


def pressed(channels: Mapping[str, Channel]) -> Callable[[str, Said], None]:
    """Tells whoever calls people that a key was pressed in a call."""
    callers = [channel for channel in channels.values() if isinstance(channel, VoiceChannel)]

    def tell(call: str, said: Said) -> None:
        for caller in callers:
            caller.heard(call, said)

    return tell


def _channel(receiver: Receiver, settings: Settings, clock: Clock) -> Channel:  # noqa: PLR0911 - one for each kind
    match receiver:
        case Dc09Receiver():
            return Dc09Channel(receiver, clock)
        case CapReceiver():
            return CapChannel(receiver, clock, *_signs(receiver, settings))
        case MailReceiver():
            return MailChannel(receiver, clock)
        case SmsReceiver():
            return SmsChannel(receiver, clock)
        case VoiceReceiver():
            return VoiceChannel(receiver, clock, f"{_reached_at(settings)}/api/v1/receivers/{receiver.name}/calls")
        case MqttReceiver():
            return MqttChannel(receiver, clock)
        case WebhookReceiver():
            return WebhookChannel(receiver, clock)


def _reached_at(settings: Settings) -> str:
    """Where the page of this installation is reached from outside."""
    return settings.web.public_url.rstrip("/") or f"http://{settings.web.host}:{settings.web.port}"


def _signs(receiver: CapReceiver, settings: Settings) -> tuple[Path, Path]:
    """The certificate and key that sign CAP messages: those that were given, else those that sign our papers."""
    if receiver.cert_file:
        return Path(receiver.cert_file), Path(receiver.key_file)
    certs = settings.folder / "certs"
    return certs / f"{home.PAPERS}.pem", certs / f"{home.PAPERS}.key"
