"""The registry's tables, for tortoise. Rows stay inside this package: the others see frozen records and the Directory.

Times are whole milliseconds UTC. "" means none, except for references, which are NULL.
"""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

ID_LENGTH = 64  # a certificate name
KEY_LENGTH = 2_000  # which rows of a quarantine, one by one
TITLE_LENGTH = 200
TEXT_LENGTH = 2_000
SHA256_HEX_LENGTH = 64


class AreaRow(Model):
    """A province, a city or a ward; `parent` is the one it lies in."""

    id = fields.CharField(ID_LENGTH, primary_key=True)
    kind = fields.CharField(16)  # province, city, ward
    name = fields.CharField(TITLE_LENGTH)
    parent: fields.ForeignKeyNullableRelation[AreaRow] = fields.ForeignKeyField(
        "registry.AreaRow", null=True, on_delete=fields.RESTRICT
    )
    parent_id: str | None

    class Meta:
        """Table."""

        table = "area"


class PremisesRow(Model):
    """A building."""

    id = fields.CharField(ID_LENGTH, primary_key=True)
    name = fields.CharField(TITLE_LENGTH)
    address = fields.CharField(TITLE_LENGTH)
    latitude = fields.FloatField()
    longitude = fields.FloatField()
    account = fields.CharField(16, unique=True)
    key_site = fields.BooleanField(default=False)
    area: fields.ForeignKeyNullableRelation[AreaRow] = fields.ForeignKeyField(
        "registry.AreaRow", null=True, on_delete=fields.RESTRICT
    )
    area_id: str | None
    risk_class = fields.CharField(16, default="")  # low, medium, high, very_high
    hydrants = fields.CharField(TEXT_LENGTH, default="")

    class Meta:
        """Table."""

        table = "premises"


class ZoneRow(Model):
    """A part of a building."""

    id = fields.CharField(ID_LENGTH, primary_key=True)
    premises: fields.ForeignKeyRelation[PremisesRow] = fields.ForeignKeyField("registry.PremisesRow", on_delete=fields.RESTRICT)
    premises_id: str
    number = fields.IntField()
    floor = fields.CharField(40)
    name = fields.CharField(TITLE_LENGTH)

    class Meta:
        """Table."""

        table = "zone"
        unique_together = (("premises", "number"),)


class DeviceRow(Model):
    """A device where it stands."""

    id = fields.CharField(ID_LENGTH, primary_key=True)
    title = fields.CharField(TITLE_LENGTH)
    model = fields.CharField(ID_LENGTH)
    state = fields.CharField(16)
    parent: fields.ForeignKeyNullableRelation[DeviceRow] = fields.ForeignKeyField(
        "registry.DeviceRow", null=True, on_delete=fields.RESTRICT
    )
    parent_id: str | None
    premises: fields.ForeignKeyNullableRelation[PremisesRow] = fields.ForeignKeyField(
        "registry.PremisesRow", null=True, on_delete=fields.RESTRICT
    )
    premises_id: str | None
    zone: fields.ForeignKeyNullableRelation[ZoneRow] = fields.ForeignKeyField(
        "registry.ZoneRow", null=True, on_delete=fields.RESTRICT
    )
    zone_id: str | None
    connection = fields.CharField(TITLE_LENGTH, default="")
    serial = fields.CharField(ID_LENGTH, default="", db_index=True)
    location = fields.CharField(TITLE_LENGTH, default="")
    latitude = fields.FloatField(null=True)
    longitude = fields.FloatField(null=True)
    labels = fields.CharField(TEXT_LENGTH, default="{}")  # canonical JSON: name → value

    class Meta:
        """Table."""

        table = "device"


class TokenRow(Model):
    """A claim token; its clear text is shown once and never stored."""

    hash = fields.CharField(SHA256_HEX_LENGTH, primary_key=True)
    device: fields.ForeignKeyRelation[DeviceRow] = fields.ForeignKeyField("registry.DeviceRow", on_delete=fields.RESTRICT)
    device_id: str
    expires_ms = fields.BigIntField()
    used_ms = fields.BigIntField(null=True)
    revoked_ms = fields.BigIntField(null=True)
    approval = fields.BooleanField(default=False)  # whether a person has to approve the request that comes with it

    class Meta:
        """Table."""

        table = "claim_token"


class CredentialRow(Model):
    """The password of a vendor's device, as a broker keeps it; its clear text is shown once and never stored."""

    device: fields.OneToOneRelation[DeviceRow] = fields.OneToOneField(
        "registry.DeviceRow", on_delete=fields.RESTRICT, primary_key=True
    )
    device_id: str
    hash = fields.CharField(200)
    made_ms = fields.BigIntField()

    class Meta:
        """Table."""

        table = "credential"


class CertificateRow(Model):
    """An issued certificate, of a device or of a service."""

    serial = fields.CharField(ID_LENGTH, primary_key=True)
    cn = fields.CharField(ID_LENGTH, db_index=True)
    anchor = fields.CharField(16)
    not_after_ms = fields.BigIntField()
    fingerprint = fields.CharField(SHA256_HEX_LENGTH)
    issued_ms = fields.BigIntField()
    revoked_ms = fields.BigIntField(null=True)
    key = fields.CharField(SHA256_HEX_LENGTH, null=True, db_index=True)  # SHA-256 of its public key; older rows have none

    class Meta:
        """Table."""

        table = "certificate"


class IntentRow(Model):
    """What a person wants of a lane; the lane applies it."""

    id = fields.BigIntField(primary_key=True)
    kind = fields.CharField(16)
    key = fields.CharField(KEY_LENGTH)
    by = fields.CharField(ID_LENGTH)
    at_ms = fields.BigIntField()
    body = fields.CharField(TEXT_LENGTH, default="")  # JSON: what is said besides

    class Meta:
        """Table."""

        table = "intent"
        unique_together = (("kind", "key"),)


class ChangeRow(Model):
    """Something changed; ids grow in commit order, because every writer holds the head of the audit chain."""

    id = fields.BigIntField(primary_key=True)
    kind = fields.CharField(16)
    key = fields.CharField(ID_LENGTH)
    at_ms = fields.BigIntField()

    class Meta:
        """Table."""

        table = "change"


class AuditRow(Model):
    """Who did what; `hash` chains it to the row before. `seq` has no holes."""

    seq = fields.BigIntField(primary_key=True, generated=False)
    at_ms = fields.BigIntField()
    by = fields.CharField(ID_LENGTH)
    action = fields.CharField(40)
    subject = fields.CharField(ID_LENGTH)
    detail = fields.TextField()
    hash = fields.CharField(SHA256_HEX_LENGTH)

    class Meta:
        """Table."""

        table = "audit"


class HeadRow(Model):
    """The end of the audit chain: one row, which every writing transaction locks first."""

    id = fields.IntField(primary_key=True, generated=False)
    seq = fields.BigIntField()
    hash = fields.CharField(SHA256_HEX_LENGTH)

    class Meta:
        """Table."""

        table = "audit_head"
