"""The bulk lane: decode, spool, store."""
