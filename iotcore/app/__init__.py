"""Composition root: the only place that wires parts together. One module for each process of the platform.

fire       fire broker → rules → journal → dispatch
telemetry  both brokers → spool → store
modbus     Modbus units → outboxes → both brokers
web        page, live stream, enrolment
keeper     revocation lists, watchdog over dispatch
common     what several of them are wired from
(broker-*  one Mosquitto (or amqtt), when we run it: `iotcore.process.brokers`)

A process imports its own module only: a fire process that was killed is back without waiting for a web framework.
"""
