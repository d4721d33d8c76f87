"""The explicit SQL of the hot path: readings, causes, incidents, outbox, changes."""
