"""Step 2: areas; whom to call, risk and hydrants of buildings; serials, places and labels of devices; files, notes, units."""

from __future__ import annotations

from iotcore.registry.migrations.step import Loss, Step, postgres, rebuilt

PREMISES = """"id" VARCHAR(64) NOT NULL PRIMARY KEY, "name" VARCHAR(200) NOT NULL, "address" VARCHAR(200) NOT NULL,
    "latitude" REAL NOT NULL, "longitude" REAL NOT NULL, "account" VARCHAR(16) NOT NULL UNIQUE, "key_site" INT NOT NULL"""

STEP = Step(
    number=2,
    name="places",
    forward=(
        """CREATE TABLE "area" (
            "id" VARCHAR(64) NOT NULL PRIMARY KEY,
            "kind" VARCHAR(16) NOT NULL,
            "name" VARCHAR(200) NOT NULL,
            "parent_id" VARCHAR(64) REFERENCES "area" ("id") ON DELETE RESTRICT)""",
        'ALTER TABLE "premises" ADD COLUMN "area_id" VARCHAR(64) REFERENCES "area" ("id") ON DELETE RESTRICT',
        """ALTER TABLE "premises" ADD COLUMN "risk_class" VARCHAR(16) NOT NULL DEFAULT ''""",
        """ALTER TABLE "premises" ADD COLUMN "hydrants" VARCHAR(2000) NOT NULL DEFAULT ''""",
        """ALTER TABLE "device" ADD COLUMN "serial" VARCHAR(64) NOT NULL DEFAULT ''""",
        """ALTER TABLE "device" ADD COLUMN "location" VARCHAR(200) NOT NULL DEFAULT ''""",
        'ALTER TABLE "device" ADD COLUMN "latitude" {float}',
        'ALTER TABLE "device" ADD COLUMN "longitude" {float}',
        """ALTER TABLE "device" ADD COLUMN "labels" VARCHAR(2000) NOT NULL DEFAULT '{}'""",
        """CREATE TABLE "contact" (
            "id" VARCHAR(64) NOT NULL PRIMARY KEY,
            "name" VARCHAR(200) NOT NULL,
            "role" VARCHAR(200) NOT NULL,
            "phone" VARCHAR(40) NOT NULL,
            "email" VARCHAR(200) NOT NULL,
            "key_holder" {bool} NOT NULL,
            "premises_id" VARCHAR(64) NOT NULL REFERENCES "premises" ("id") ON DELETE RESTRICT)""",
        """CREATE TABLE "attachment" (
            "id" VARCHAR(64) NOT NULL PRIMARY KEY,
            "kind" VARCHAR(20) NOT NULL,
            "title" VARCHAR(200) NOT NULL,
            "media_type" VARCHAR(60) NOT NULL,
            "size" BIGINT NOT NULL,
            "sha256" VARCHAR(64) NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "at_ms" BIGINT NOT NULL,
            "device_id" VARCHAR(64) REFERENCES "device" ("id") ON DELETE RESTRICT,
            "premises_id" VARCHAR(64) REFERENCES "premises" ("id") ON DELETE RESTRICT)""",
        'CREATE INDEX "idx_attachment_sha256_dec712" ON "attachment" ("sha256")',
        """CREATE TABLE "note" (
            "id" {serial},
            "text" VARCHAR(4000) NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "at_ms" BIGINT NOT NULL,
            "device_id" VARCHAR(64) REFERENCES "device" ("id") ON DELETE RESTRICT,
            "premises_id" VARCHAR(64) REFERENCES "premises" ("id") ON DELETE RESTRICT)""",
        """CREATE TABLE "device_config" (
            "id" {serial},
            "side" VARCHAR(8) NOT NULL,
            "version" BIGINT NOT NULL,
            "body" TEXT NOT NULL,
            "by" VARCHAR(64) NOT NULL,
            "at_ms" BIGINT NOT NULL,
            "device_id" VARCHAR(64) NOT NULL REFERENCES "device" ("id") ON DELETE RESTRICT,
            CONSTRAINT "uid_device_conf_device__3c1631" UNIQUE ("device_id", "side", "version"))""",
        """CREATE TABLE "unit" (
            "id" {serial},
            "serial" VARCHAR(64) NOT NULL,
            "model" VARCHAR(64) NOT NULL,
            "from_ms" BIGINT NOT NULL,
            "to_ms" BIGINT,
            "why" VARCHAR(200) NOT NULL,
            "device_id" VARCHAR(64) NOT NULL REFERENCES "device" ("id") ON DELETE RESTRICT)""",
    ),
    backward=(
        'DROP TABLE "unit"',
        'DROP TABLE "device_config"',
        'DROP TABLE "note"',
        'DROP TABLE "attachment"',
        'DROP TABLE "contact"',
        *(f'ALTER TABLE "device" DROP COLUMN "{name}"' for name in ("labels", "longitude", "latitude", "location", "serial")),
        *rebuilt("premises", PREMISES, "id, name, address, latitude, longitude, account, key_site"),
        *postgres(*(f'ALTER TABLE "premises" DROP COLUMN "{name}"' for name in ("hydrants", "risk_class", "area_id"))),
        'DROP TABLE "area"',
    ),
    losses=(
        Loss("areas", "SELECT count(*) AS n FROM area"),
        Loss("contacts", "SELECT count(*) AS n FROM contact"),
        Loss("files", "SELECT count(*) AS n FROM attachment"),
        Loss("notes", "SELECT count(*) AS n FROM note"),
        Loss("configurations", "SELECT count(*) AS n FROM device_config"),
        Loss("units", "SELECT count(*) AS n FROM unit"),
        Loss("risk classes or hydrants of premises", "SELECT count(*) AS n FROM premises WHERE risk_class || hydrants <> ''"),
        Loss(
            "serials, locations or labels of devices",
            "SELECT count(*) AS n FROM device WHERE serial || location <> '' OR latitude IS NOT NULL OR labels <> '{}'",
        ),
    ),
)
