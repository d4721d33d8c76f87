"""The fire lane in a simulated world: virtual time, seeded network and crashes; lane, journal and dispatcher are real."""
