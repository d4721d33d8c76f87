"""The wire contract: topics, message types, their JSON Schemas."""
