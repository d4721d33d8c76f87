"""The whole road."""
