"""Step 6: groups of devices found by a query, and the history of coverage."""

from __future__ import annotations

from iotcore.registry.migrations.step import Loss, Step

STEP = Step(
    number=6,
    name="coverage",
    forward=(
        """CREATE TABLE "device_group" (
            "id" VARCHAR(64) NOT NULL PRIMARY KEY,
            "title" VARCHAR(200) NOT NULL,
            "query" TEXT NOT NULL,
            "version" BIGINT NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "at_ms" BIGINT NOT NULL)""",
        """CREATE TABLE "coverage" (
            "id" {serial},
            "day" VARCHAR(10) NOT NULL,
            "cell" VARCHAR(32) NOT NULL,
            "area" VARCHAR(64) NOT NULL,
            "key_sites" INT NOT NULL,
            "watched" INT NOT NULL,
            "covered" INT NOT NULL,
            "at_ms" BIGINT NOT NULL,
            CONSTRAINT "uid_coverage_day_562836" UNIQUE ("day", "cell", "area"))""",
    ),
    backward=('DROP TABLE "coverage"', 'DROP TABLE "device_group"'),
    losses=(
        Loss("groups", "SELECT count(*) AS n FROM device_group"),
        Loss("days of coverage", "SELECT count(DISTINCT day) AS n FROM coverage"),
    ),
)
