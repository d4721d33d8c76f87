"""Other platforms' Modbus configurations → a draft of our spec, and a report of what could not be carried over."""
