"""Campaigns against the real parts that a person can run for as long as they like: `python -m tests.campaigns.set_test`."""
