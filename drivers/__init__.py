"""Drivers turn field protocols into readings."""
