"""Step 5: test modes, the last test of each device, what technicians told."""

from __future__ import annotations

from iotcore.registry.migrations.step import Loss, Step

STEP = Step(
    number=5,
    name="commissioning",
    forward=(
        """CREATE TABLE "test_mode" (
            "started_ms" BIGINT NOT NULL,
            "until_ms" BIGINT NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "ended_ms" BIGINT,
            "device_id" VARCHAR(64) NOT NULL PRIMARY KEY REFERENCES "device" ("id") ON DELETE RESTRICT)""",
        'CREATE INDEX "idx_test_mode_until_m_1" ON "test_mode" ("until_ms")',
        """CREATE TABLE "device_test" (
            "at_ms" BIGINT NOT NULL,
            "latency_ms" {float} NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "device_id" VARCHAR(64) NOT NULL PRIMARY KEY REFERENCES "device" ("id") ON DELETE RESTRICT)""",
        'CREATE INDEX "idx_device_test_at_ms_1" ON "device_test" ("at_ms")',
        """CREATE TABLE "commissioning_entry" (
            "id" VARCHAR(64) NOT NULL PRIMARY KEY,
            "number" INT NOT NULL,
            "kind" VARCHAR(16) NOT NULL,
            "body" TEXT NOT NULL,
            "outcome" TEXT NOT NULL,
            "at_ms" BIGINT NOT NULL,
            "received_ms" BIGINT NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "file" VARCHAR(64) NOT NULL,
            "device_id" VARCHAR(64) NOT NULL REFERENCES "device" ("id") ON DELETE RESTRICT,
            CONSTRAINT "uid_commissioning_entry_1" UNIQUE ("device_id", "number"))""",
    ),
    backward=('DROP TABLE "commissioning_entry"', 'DROP TABLE "device_test"', 'DROP TABLE "test_mode"'),
    losses=(
        Loss("test modes", "SELECT count(*) AS n FROM test_mode WHERE ended_ms IS NULL"),
        Loss("last tests of devices", "SELECT count(*) AS n FROM device_test"),
        Loss("entries of technicians", "SELECT count(*) AS n FROM commissioning_entry"),
    ),
)
