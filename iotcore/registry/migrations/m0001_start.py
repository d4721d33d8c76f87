"""Step 1: the tables as they were when steps began. A registry from before them is completed and taken over."""

from __future__ import annotations

from iotcore.registry.audit import GENESIS
from iotcore.registry.migrations.step import Step, postgres

STEP = Step(
    number=1,
    name="start",
    forward=(
        """CREATE TABLE IF NOT EXISTS "premises" (
            "id" VARCHAR(64) NOT NULL PRIMARY KEY,
            "name" VARCHAR(200) NOT NULL,
            "address" VARCHAR(200) NOT NULL,
            "latitude" {float} NOT NULL,
            "longitude" {float} NOT NULL,
            "account" VARCHAR(16) NOT NULL UNIQUE,
            "key_site" {bool} NOT NULL)""",
        """CREATE TABLE IF NOT EXISTS "zone" (
            "id" VARCHAR(64) NOT NULL PRIMARY KEY,
            "number" INT NOT NULL,
            "floor" VARCHAR(40) NOT NULL,
            "name" VARCHAR(200) NOT NULL,
            "premises_id" VARCHAR(64) NOT NULL REFERENCES "premises" ("id") ON DELETE RESTRICT,
            CONSTRAINT "uid_zone_premise_e8d13d" UNIQUE ("premises_id", "number"))""",
        """CREATE TABLE IF NOT EXISTS "device" (
            "id" VARCHAR(64) NOT NULL PRIMARY KEY,
            "title" VARCHAR(200) NOT NULL,
            "model" VARCHAR(64) NOT NULL,
            "state" VARCHAR(16) NOT NULL,
            "connection" VARCHAR(200) NOT NULL,
            "parent_id" VARCHAR(64) REFERENCES "device" ("id") ON DELETE RESTRICT,
            "premises_id" VARCHAR(64) REFERENCES "premises" ("id") ON DELETE RESTRICT,
            "zone_id" VARCHAR(64) REFERENCES "zone" ("id") ON DELETE RESTRICT)""",
        """CREATE TABLE IF NOT EXISTS "claim_token" (
            "hash" VARCHAR(64) NOT NULL PRIMARY KEY,
            "expires_ms" BIGINT NOT NULL,
            "used_ms" BIGINT,
            "device_id" VARCHAR(64) NOT NULL REFERENCES "device" ("id") ON DELETE RESTRICT)""",
        """CREATE TABLE IF NOT EXISTS "credential" (
            "hash" VARCHAR(200) NOT NULL,
            "made_ms" BIGINT NOT NULL,
            "device_id" VARCHAR(64) NOT NULL PRIMARY KEY REFERENCES "device" ("id") ON DELETE RESTRICT)""",
        """CREATE TABLE IF NOT EXISTS "certificate" (
            "serial" VARCHAR(64) NOT NULL PRIMARY KEY,
            "cn" VARCHAR(64) NOT NULL,
            "anchor" VARCHAR(16) NOT NULL,
            "not_after_ms" BIGINT NOT NULL,
            "fingerprint" VARCHAR(64) NOT NULL,
            "issued_ms" BIGINT NOT NULL,
            "revoked_ms" BIGINT)""",
        'CREATE INDEX IF NOT EXISTS "idx_certificate_cn_2ef62d" ON "certificate" ("cn")',
        """CREATE TABLE IF NOT EXISTS "intent" (
            "id" {serial},
            "kind" VARCHAR(16) NOT NULL,
            "key" VARCHAR(2000) NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "at_ms" BIGINT NOT NULL,
            CONSTRAINT "uid_intent_kind_acfa17" UNIQUE ("kind", "key"))""",
        *postgres('ALTER TABLE "intent" ALTER COLUMN "key" TYPE VARCHAR(2000)'),  # the first ones had room for 64
        """CREATE TABLE IF NOT EXISTS "change" (
            "id" {serial},
            "kind" VARCHAR(16) NOT NULL,
            "key" VARCHAR(64) NOT NULL,
            "at_ms" BIGINT NOT NULL)""",
        """CREATE TABLE IF NOT EXISTS "audit" (
            "seq" BIGINT NOT NULL PRIMARY KEY,
            "at_ms" BIGINT NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "action" VARCHAR(40) NOT NULL,
            "subject" VARCHAR(64) NOT NULL,
            "detail" TEXT NOT NULL,
            "hash" VARCHAR(64) NOT NULL)""",
        """CREATE TABLE IF NOT EXISTS "audit_head" (
            "id" INT NOT NULL PRIMARY KEY,
            "seq" BIGINT NOT NULL,
            "hash" VARCHAR(64) NOT NULL)""",
        f"INSERT INTO audit_head (id, seq, hash) VALUES (1, 0, '{GENESIS}') ON CONFLICT DO NOTHING",  # noqa: S608 a constant
    ),
    backward=(),  # there is nothing before it: the audit itself would go
)
