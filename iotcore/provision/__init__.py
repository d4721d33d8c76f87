"""Certificates and brokers: who may connect, and as whom."""
