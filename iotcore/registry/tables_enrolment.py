"""The tables of enrolment at scale: a maker's units, tokens for a whole batch of them, requests that wait for a person.

A unit is what comes out of a box; a device is a place in the city (tables.py). Binding puts the one into the other.
"""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from iotcore.registry.tables import ID_LENGTH, SHA256_HEX_LENGTH, TITLE_LENGTH, DeviceRow

ADDRESS_LENGTH = 45  # of an IPv6 address that holds an IPv4 one


class ClaimRow(Model):
    """A unit that its maker told us of: `secret` is the SHA-256 of what it enrols with, "" if it has none of its own."""

    id = fields.BigIntField(primary_key=True)
    model = fields.CharField(ID_LENGTH)
    serial = fields.CharField(ID_LENGTH, db_index=True)
    batch = fields.CharField(ID_LENGTH, db_index=True)
    secret = fields.CharField(SHA256_HEX_LENGTH)
    expires_ms = fields.BigIntField()
    device: fields.OneToOneNullableRelation[DeviceRow] = fields.OneToOneField(
        "registry.DeviceRow", null=True, on_delete=fields.RESTRICT
    )
    device_id: str | None
    bound_ms = fields.BigIntField(null=True)
    spent_ms = fields.BigIntField(null=True)
    revoked_ms = fields.BigIntField(null=True)

    class Meta:
        """Table."""

        table = "claim"
        unique_together = (("model", "serial"),)


class BatchTokenRow(Model):
    """A token for `uses` units of one batch, each once; its clear text is shown once and never stored."""

    hash = fields.CharField(SHA256_HEX_LENGTH, primary_key=True)
    batch = fields.CharField(ID_LENGTH)
    uses = fields.IntField()
    used = fields.IntField(default=0)
    approval = fields.BooleanField(default=False)
    expires_ms = fields.BigIntField()
    revoked_ms = fields.BigIntField(null=True)

    class Meta:
        """Table."""

        table = "batch_token"


class RequestRow(Model):
    """A request for a certificate that a person has to approve: one key of one device, for one anchor."""

    id = fields.BigIntField(primary_key=True)
    device: fields.ForeignKeyRelation[DeviceRow] = fields.ForeignKeyField("registry.DeviceRow", on_delete=fields.RESTRICT)
    device_id: str
    key = fields.CharField(SHA256_HEX_LENGTH)
    anchor = fields.CharField(16)
    token = fields.CharField(SHA256_HEX_LENGTH)
    address = fields.CharField(ADDRESS_LENGTH)
    state = fields.CharField(16)
    asked_ms = fields.BigIntField()
    expires_ms = fields.BigIntField()
    decided_by = fields.CharField(ID_LENGTH, default="")
    reason = fields.CharField(TITLE_LENGTH, default="")

    class Meta:
        """Table."""

        table = "enrolment_request"
        unique_together = (("device", "key", "anchor"),)
