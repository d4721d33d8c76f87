"""The words of docs/settings.md for the receivers that are not alarm centres."""

from __future__ import annotations


def _gateway(kind: str) -> dict[str, str]:
    """What gateways for text messages and for calls have in common."""
    return {
        f"{kind}.name": "What the receiver is called in incidents, logs and variables.",
        f"{kind}.url": "The gateway; fields in `{}` as in `body`.",
        f"{kind}.body": "What it is sent: a table of texts with fields in `{}` "
        "([receivers.md](receivers.md#text-messages-and-calls)).",
        f"{kind}.method": "HTTP method; with `GET` the body stands in the address.",
        f"{kind}.format": "How the body is written.",
        f"{kind}.headers": "Headers, with fields in `{}` as well.",
        f"{kind}.secret": "What `{secret}` stands for: the gateway's key. A secret.",
        f"{kind}.statuses": "Statuses that mean success.",
        f"{kind}.answer_path": "Where in the JSON of the answer to look besides: `result.0.code`.",
        f"{kind}.answer_matches": "What must stand there, a regular expression; without a path, in the answer itself.",
        f"{kind}.numbers": "Numbers for premises whose response plan has none; E.164.",
        f"{kind}.language": "Their language.",
        f"{kind}.reply_timeout_s": "How long to wait for the gateway's answer before it is asked again, in seconds.",
    }


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
    "MailReceiver.name": "What the receiver is called in incidents, logs and variables.",
    "MailReceiver.host": "The mail server that takes our mail.",
    "MailReceiver.port": "Its port.",
    "MailReceiver.security": "`starttls` and `tls` insist on a good certificate; `none` is for a server on this machine.",
    "MailReceiver.sender": "Address of the sender.",
    "MailReceiver.to": "Addresses of those who are told; each gets a message of their own.",
    "MailReceiver.username": "User there, when it asks for one.",
    "MailReceiver.password": "Its password. A secret.",
    "MailReceiver.ca_file": "PEM file with the authority of the server's certificate, when it is not a public one.",
    "MailReceiver.languages": "The languages of a message, in their order.",
    "MailReceiver.reply_timeout_s": "How long to wait for each answer before it is sent again, in seconds.",
    **_gateway("SmsReceiver"),
    "SmsReceiver.marks": "Whether Vietnamese is written with its marks: 70 characters a segment instead of 160.",
    "SmsReceiver.segments": "How long a message may be; the incident's id and the address are never cut off.",
    **_gateway("VoiceReceiver"),
    "VoiceReceiver.callback_secret": "Signs the address at which the gateway tells which key was pressed. A secret.",
    "VoiceReceiver.answer_s": "How long to wait for a key before the next number is called, in seconds.",
    "VoiceReceiver.key_field": "Name of the field of the gateway's answer that holds the key.",
    "MqttReceiver.name": "What the receiver is called in incidents, logs and variables.",
    "MqttReceiver.host": "The broker.",
    "MqttReceiver.port": "Its port.",
    "MqttReceiver.topic": "Where alarms are published (QoS 1); `{incident}`, `{event}`, `{premises}` and `{account}` stand "
    "for these.",
    "MqttReceiver.reply_topic": 'Where whoever takes them answers; "" means that the broker\'s PUBACK is enough.',
    "MqttReceiver.tls": "Whether the connection is encrypted; without, neither password nor certificate is allowed.",
    "MqttReceiver.ca_file": "PEM file with the authority of the broker's certificate, when it is not a public one.",
    "MqttReceiver.cert_file": "PEM file with our certificate there.",
    "MqttReceiver.key_file": "Its key.",
    "MqttReceiver.username": "User there.",
    "MqttReceiver.password": "Its password. A secret.",
    "MqttReceiver.client_id": 'Client id; "" means `iotcore-` and the name.',
    "MqttReceiver.version": "MQTT version.",
    "MqttReceiver.reply_timeout_s": "How long to wait for the acknowledgement before it is sent again, in seconds.",
}
