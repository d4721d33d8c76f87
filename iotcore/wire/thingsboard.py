"""The fixed topics of ThingsBoard's MQTT APIs, as far as a gateway publishes on them.

Source: https://thingsboard.io/docs/reference/gateway-api/overview/ and https://thingsboard.io/docs/reference/mqtt-api/telemetry/.
"""

from __future__ import annotations

TELEMETRY = "v1/gateway/telemetry"
ATTRIBUTES = "v1/gateway/attributes"
CONNECT = "v1/gateway/connect"
DISCONNECT = "v1/gateway/disconnect"
GATEWAY = (TELEMETRY, ATTRIBUTES, CONNECT, DISCONNECT)  # for the devices behind it

OWN_TELEMETRY = "v1/devices/me/telemetry"
OWN_ATTRIBUTES = "v1/devices/me/attributes"
OWN = (OWN_TELEMETRY, OWN_ATTRIBUTES)  # of the gateway as a device
