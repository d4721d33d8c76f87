"""iotcore: device management and telemetry for smart cities, with an isolated fire lane."""
