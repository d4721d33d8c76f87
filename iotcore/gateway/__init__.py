"""A gateway as a process: Modbus units on one side, two brokers on the other; beside the core, or at a site of its own."""
