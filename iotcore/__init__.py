"""iotcore: device management and telemetry for smart cities, with an isolated fire lane."""

__version__ = "0.1.0"
