"""Step 7: devices are found by their serials: by labels, and by an import of a hundred thousand that may clash with them."""

from __future__ import annotations

from iotcore.registry.migrations.step import Step

STEP = Step(
    number=7,
    name="serials",
    forward=('CREATE INDEX "idx_device_serial_4c3ee1" ON "device" ("serial")',),
    backward=('DROP INDEX "idx_device_serial_4c3ee1"',),
)
