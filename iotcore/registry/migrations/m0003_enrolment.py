"""Step 3: keys of certificates; tokens that a person has to approve; makers' units, tokens of batches, requests that wait."""

from __future__ import annotations

from iotcore.registry.migrations.step import Loss, Step

STEP = Step(
    number=3,
    name="enrolment",
    forward=(
        'ALTER TABLE "certificate" ADD COLUMN "key" VARCHAR(64)',
        'CREATE INDEX "idx_certificate_key_2b9613" ON "certificate" ("key")',
        'ALTER TABLE "claim_token" ADD COLUMN "revoked_ms" BIGINT',
        'ALTER TABLE "claim_token" ADD COLUMN "approval" {bool} NOT NULL DEFAULT FALSE',
        """CREATE TABLE "claim" (
            "id" {serial},
            "model" VARCHAR(64) NOT NULL,
            "serial" VARCHAR(64) NOT NULL,
            "batch" VARCHAR(64) NOT NULL,
            "secret" VARCHAR(64) NOT NULL,
            "expires_ms" BIGINT NOT NULL,
            "bound_ms" BIGINT,
            "spent_ms" BIGINT,
            "revoked_ms" BIGINT,
            "device_id" VARCHAR(64) UNIQUE REFERENCES "device" ("id") ON DELETE RESTRICT,
            CONSTRAINT "uid_claim_model_6055d5" UNIQUE ("model", "serial"))""",
        'CREATE INDEX "idx_claim_serial_693933" ON "claim" ("serial")',
        'CREATE INDEX "idx_claim_batch_5b5b36" ON "claim" ("batch")',
        """CREATE TABLE "batch_token" (
            "hash" VARCHAR(64) NOT NULL PRIMARY KEY,
            "batch" VARCHAR(64) NOT NULL,
            "uses" INT NOT NULL,
            "used" INT NOT NULL,
            "approval" {bool} NOT NULL,
            "expires_ms" BIGINT NOT NULL,
            "revoked_ms" BIGINT)""",
        """CREATE TABLE "enrolment_request" (
            "id" {serial},
            "key" VARCHAR(64) NOT NULL,
            "anchor" VARCHAR(16) NOT NULL,
            "token" VARCHAR(64) NOT NULL,
            "address" VARCHAR(45) NOT NULL,
            "state" VARCHAR(16) NOT NULL,
            "asked_ms" BIGINT NOT NULL,
            "expires_ms" BIGINT NOT NULL,
            "decided_by" VARCHAR(64) NOT NULL,
            "reason" VARCHAR(200) NOT NULL,
            "device_id" VARCHAR(64) NOT NULL REFERENCES "device" ("id") ON DELETE RESTRICT,
            CONSTRAINT "uid_enrolment_r_device__2255c6" UNIQUE ("device_id", "key", "anchor"))""",
    ),
    backward=(
        'DROP TABLE "enrolment_request"',
        'DROP TABLE "batch_token"',
        'DROP TABLE "claim"',
        # before this step a token could neither be taken back nor need a person: such tokens are worth nothing afterwards
        'UPDATE "claim_token" SET "used_ms" = "expires_ms" WHERE "used_ms" IS NULL AND ("revoked_ms" IS NOT NULL OR "approval")',
        'ALTER TABLE "claim_token" DROP COLUMN "approval"',
        'ALTER TABLE "claim_token" DROP COLUMN "revoked_ms"',
        'DROP INDEX "idx_certificate_key_2b9613"',
        'ALTER TABLE "certificate" DROP COLUMN "key"',
    ),
    losses=(
        Loss("units of makers' batches", "SELECT count(*) AS n FROM claim"),
        Loss("tokens of batches", "SELECT count(*) AS n FROM batch_token"),
        Loss("requests that wait for a person, or were decided", "SELECT count(*) AS n FROM enrolment_request"),
        Loss("keys of certificates", "SELECT count(*) AS n FROM certificate WHERE key IS NOT NULL"),
    ),
)
