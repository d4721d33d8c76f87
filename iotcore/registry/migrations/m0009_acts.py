"""Step 9: response plans, disablements, walk tests; what an intent says besides its kind and key."""

from __future__ import annotations

from iotcore.registry.migrations.step import Loss, Step

STEP = Step(
    number=9,
    name="acts",
    forward=(
        """CREATE TABLE "response" (
            "version" BIGINT NOT NULL,
            "document" TEXT NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "at_ms" BIGINT NOT NULL,
            "premises_id" VARCHAR(64) NOT NULL PRIMARY KEY REFERENCES "premises" ("id") ON DELETE RESTRICT)""",
        """CREATE TABLE "response_version" (
            "id" {serial},
            "premises" VARCHAR(64) NOT NULL,
            "version" BIGINT NOT NULL,
            "document" TEXT NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "at_ms" BIGINT NOT NULL,
            CONSTRAINT "uid_response_version_1" UNIQUE ("premises", "version"))""",
        """CREATE TABLE "disablement" (
            "id" VARCHAR(64) NOT NULL PRIMARY KEY,
            "kind" VARCHAR(16) NOT NULL,
            "subject" VARCHAR(64) NOT NULL,
            "point" VARCHAR(64) NOT NULL,
            "premises" VARCHAR(64) NOT NULL,
            "reason" VARCHAR(200) NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "asked_ms" BIGINT NOT NULL,
            "until_ms" BIGINT NOT NULL,
            "confirmed_by" VARCHAR(64) NOT NULL,
            "started_ms" BIGINT,
            "ended_ms" BIGINT,
            "ended_by" VARCHAR(64) NOT NULL)""",
        'CREATE INDEX "idx_disablement_until_m_1" ON "disablement" ("until_ms")',
        """CREATE TABLE "walk_test" (
            "id" VARCHAR(64) NOT NULL PRIMARY KEY,
            "premises" VARCHAR(64) NOT NULL,
            "zone" VARCHAR(64) NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "started_ms" BIGINT NOT NULL,
            "until_ms" BIGINT NOT NULL,
            "ended_ms" BIGINT,
            "ended_by" VARCHAR(64) NOT NULL)""",
        'CREATE INDEX "idx_walk_test_until_m_1" ON "walk_test" ("until_ms")',
        """CREATE TABLE "owner_key" (
            "id" INT NOT NULL PRIMARY KEY,
            "key" VARCHAR(64) NOT NULL,
            "made_ms" BIGINT NOT NULL)""",
        """ALTER TABLE "intent" ADD COLUMN "body" VARCHAR(2000) NOT NULL DEFAULT ''""",
    ),
    backward=(
        'ALTER TABLE "intent" DROP COLUMN "body"',
        'DROP TABLE "owner_key"',
        'DROP TABLE "walk_test"',
        'DROP TABLE "disablement"',
        'DROP TABLE "response_version"',
        'DROP TABLE "response"',
    ),
    losses=(
        Loss("response plans", "SELECT count(*) AS n FROM response"),
        Loss("versions of response plans", "SELECT count(*) AS n FROM response_version"),
        Loss("disablements", "SELECT count(*) AS n FROM disablement WHERE ended_ms IS NULL"),
        Loss("walk tests", "SELECT count(*) AS n FROM walk_test WHERE ended_ms IS NULL"),
    ),
)
