"""Step 10: fire rules as documents, with all their versions."""

from __future__ import annotations

from iotcore.registry.migrations.step import Loss, Step

STEP = Step(
    number=10,
    name="rules",
    forward=(
        """CREATE TABLE "rule_document" (
            "key" VARCHAR(200) NOT NULL PRIMARY KEY,
            "body" TEXT NOT NULL,
            "version" BIGINT NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "at_ms" BIGINT NOT NULL)""",
        """CREATE TABLE "rule_version" (
            "id" {serial},
            "key" VARCHAR(200) NOT NULL,
            "version" BIGINT NOT NULL,
            "body" TEXT NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "at_ms" BIGINT NOT NULL,
            CONSTRAINT "uid_rule_versio_key_d00215" UNIQUE ("key", "version"))""",
    ),
    backward=('DROP TABLE "rule_version"', 'DROP TABLE "rule_document"'),
    losses=(
        Loss("rules", "SELECT count(*) AS n FROM rule_document"),
        Loss("versions of rules", "SELECT count(*) AS n FROM rule_version"),
    ),
)
