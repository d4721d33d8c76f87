"""MQTT: ingest with manual acknowledgement; payloads to readings."""
