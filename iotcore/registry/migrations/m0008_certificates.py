"""Step 8: which certificates a newer one has replaced."""

from __future__ import annotations

from iotcore.registry.migrations.step import Loss, Step

STEP = Step(
    number=8,
    name="certificates",
    forward=(
        """CREATE TABLE "certificate_superseded" (
            "newer" VARCHAR(64) NOT NULL,
            "at_ms" BIGINT NOT NULL,
            "certificate_id" VARCHAR(64) NOT NULL PRIMARY KEY REFERENCES "certificate" ("serial") ON DELETE RESTRICT)""",
    ),
    backward=('DROP TABLE "certificate_superseded"',),
    losses=(Loss("certificates that newer ones have replaced", "SELECT count(*) AS n FROM certificate_superseded"),),
)
