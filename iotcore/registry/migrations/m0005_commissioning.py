"""Step 5: who is in test mode, who was tested last, and what technicians told."""

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
        'CREATE INDEX "idx_test_mode_until_m_4dda5e" ON "test_mode" ("until_ms")',
        """CREATE TABLE "device_test" (
            "at_ms" BIGINT NOT NULL,
            "latency_ms" {float} NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "device_id" VARCHAR(64) NOT NULL PRIMARY KEY REFERENCES "device" ("id") ON DELETE RESTRICT)""",
        'CREATE INDEX "idx_device_test_at_ms_c96048" ON "device_test" ("at_ms")',
        """CREATE TABLE "commissioning_entry" (
            "id" VARCHAR(64) NOT NULL PRIMARY KEY,
            "number" INT NOT NULL,
            "kind" VARCHAR(16) NOT NULL,
            "body" TEXT NOT NULL,
            "at_ms" BIGINT NOT NULL,
            "received_ms" BIGINT NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "file" VARCHAR(64) NOT NULL,
            "device_id" VARCHAR(64) NOT NULL REFERENCES "device" ("id") ON DELETE RESTRICT,
            CONSTRAINT "uid_commissioni_device__3e9bd0" UNIQUE ("device_id", "number"))""",
    ),
    backward=('DROP TABLE "commissioning_entry"', 'DROP TABLE "device_test"', 'DROP TABLE "test_mode"'),
    losses=(
        Loss("test modes", "SELECT count(*) AS n FROM test_mode"),
        Loss("last tests of devices", "SELECT count(*) AS n FROM device_test"),
        Loss("what technicians told", "SELECT count(*) AS n FROM commissioning_entry"),
    ),
)
