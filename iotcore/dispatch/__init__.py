"""From the outbox to the receivers: SIA DC-09, signed webhooks."""
