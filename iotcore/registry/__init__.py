"""Premises, zones, devices, tokens, certificates, intents, audit."""
