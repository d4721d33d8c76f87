"""Real clients and servers made from the same specs as the platform."""
