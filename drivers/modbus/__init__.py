"""Modbus: a poller with a plan, and no stale values."""
