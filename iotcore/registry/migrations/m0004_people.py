"""Step 4: users, their roles, sessions, API tokens, one-time links, and what takes two persons."""

from __future__ import annotations

from iotcore.registry.migrations.step import Loss, Step

STEP = Step(
    number=4,
    name="people",
    forward=(
        """CREATE TABLE "person" (
            "name" VARCHAR(40) NOT NULL PRIMARY KEY,
            "full_name" VARCHAR(200) NOT NULL,
            "password" VARCHAR(200) NOT NULL,
            "subject" VARCHAR(200) UNIQUE,
            "disabled_ms" BIGINT,
            "made_ms" BIGINT NOT NULL)""",
        """CREATE TABLE "person_grant" (
            "id" {serial},
            "role" VARCHAR(16) NOT NULL,
            "source" VARCHAR(8) NOT NULL,
            "area_id" VARCHAR(64) REFERENCES "area" ("id") ON DELETE RESTRICT,
            "user_id" VARCHAR(40) NOT NULL REFERENCES "person" ("name") ON DELETE RESTRICT)""",
        """CREATE TABLE "session" (
            "hash" VARCHAR(64) NOT NULL PRIMARY KEY,
            "browser" VARCHAR(64) NOT NULL,
            "way" VARCHAR(8) NOT NULL,
            "address" VARCHAR(64) NOT NULL,
            "agent" VARCHAR(200) NOT NULL,
            "made_ms" BIGINT NOT NULL,
            "seen_ms" BIGINT NOT NULL,
            "expires_ms" BIGINT NOT NULL,
            "ended_ms" BIGINT,
            "user_id" VARCHAR(40) NOT NULL REFERENCES "person" ("name") ON DELETE RESTRICT)""",
        'CREATE INDEX "idx_session_browser_349eab" ON "session" ("browser")',
        """CREATE TABLE "api_token" (
            "id" {serial},
            "hash" VARCHAR(64) NOT NULL UNIQUE,
            "name" VARCHAR(20) NOT NULL,
            "grants" VARCHAR(2000) NOT NULL,
            "made_ms" BIGINT NOT NULL,
            "expires_ms" BIGINT NOT NULL,
            "revoked_ms" BIGINT,
            "user_id" VARCHAR(40) NOT NULL REFERENCES "person" ("name") ON DELETE RESTRICT,
            CONSTRAINT "uid_api_token_user_id_eec1af" UNIQUE ("user_id", "name"))""",
        """CREATE TABLE "sign_in_link" (
            "hash" VARCHAR(64) NOT NULL PRIMARY KEY,
            "made_ms" BIGINT NOT NULL,
            "expires_ms" BIGINT NOT NULL,
            "used_ms" BIGINT,
            "user_id" VARCHAR(40) REFERENCES "person" ("name") ON DELETE RESTRICT)""",
        """CREATE TABLE "approval" (
            "id" {serial},
            "action" VARCHAR(40) NOT NULL,
            "arguments" VARCHAR(2000) NOT NULL,
            "hash" VARCHAR(64) NOT NULL,
            "asked_by" VARCHAR(40) NOT NULL,
            "asked_ms" BIGINT NOT NULL,
            "expires_ms" BIGINT NOT NULL,
            "state" VARCHAR(10) NOT NULL,
            "decided_by" VARCHAR(40) NOT NULL,
            "decided_ms" BIGINT)""",
        'CREATE INDEX "idx_approval_hash_20aac9" ON "approval" ("hash")',
    ),
    backward=(
        'DROP TABLE "approval"',
        'DROP TABLE "sign_in_link"',
        'DROP TABLE "api_token"',
        'DROP TABLE "session"',
        'DROP TABLE "person_grant"',
        'DROP TABLE "person"',
    ),
    losses=(
        Loss("users", "SELECT count(*) AS n FROM person"),
        Loss("API tokens", "SELECT count(*) AS n FROM api_token WHERE revoked_ms IS NULL"),
        Loss("approvals", "SELECT count(*) AS n FROM approval"),
    ),
)
