"""The words of docs/settings.md for the receivers that are not alarm centres."""

from __future__ import annotations

WORDS_OF_CHANNELS = {
    "CapReceiver.name": "What the receiver is called in incidents, logs and variables.",
    "CapReceiver.url": "Where the messages are posted.",
    "CapReceiver.sender": "Who sends, as CAP names it: a host name or address of yours, without spaces and commas.",
    "CapReceiver.status": "`Actual`: fires, and nothing else. `Exercise`: exercises alone. `Test`: a trial of the "
    "connection: everything, marked as a test.",
    "CapReceiver.sender_name": "Who sends, for people.",
    "CapReceiver.scope": "For whom the messages are; `Private` needs `addresses`, `Restricted` a `restriction`.",
    "CapReceiver.restriction": "For whom, in words.",
    "CapReceiver.addresses": "For whom, by address.",
    "CapReceiver.area": "How the place is drawn: a circle, or a polygon of eight corners.",
    "CapReceiver.radius_m": "How large, in metres.",
    "CapReceiver.sign": "Whether messages are signed.",
    "CapReceiver.cert_file": 'PEM file with the certificate that signs; "" means the one that signs our papers.',
    "CapReceiver.key_file": "Its key, PEM.",
    "CapReceiver.reply_timeout_s": "How long to wait for the answer before it is sent again, in seconds.",
}
