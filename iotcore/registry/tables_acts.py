"""Tables of what people decide about a fire beforehand: response plans, disablements, walk tests.

As in `tables`: times are whole milliseconds UTC. What a row is about is named, not referred to: its history outlives it.
"""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from iotcore.registry.tables import ID_LENGTH, SHA256_HEX_LENGTH, TITLE_LENGTH, PremisesRow


class ResponseRow(Model):
    """The response plan of a premises as it is now."""

    premises: fields.OneToOneRelation[PremisesRow] = fields.OneToOneField(
        "registry.PremisesRow", on_delete=fields.RESTRICT, primary_key=True
    )
    premises_id: str
    version = fields.BigIntField()
    document = fields.TextField()  # canonical JSON
    by = fields.CharField(ID_LENGTH)
    at_ms = fields.BigIntField()

    class Meta:
        """Table."""

        table = "response"


class ResponseVersionRow(Model):
    """Every version that a premises' plan ever had. Never changed."""

    id = fields.BigIntField(primary_key=True)
    premises = fields.CharField(ID_LENGTH)
    version = fields.BigIntField()
    document = fields.TextField()  # canonical JSON; "" for a removal
    by = fields.CharField(ID_LENGTH)
    at_ms = fields.BigIntField()

    class Meta:
        """Table."""

        table = "response_version"
        unique_together = (("premises", "version"),)


class DisablementRow(Model):
    """Something that is disabled for a time. `started_ms` is NULL while a second person has not confirmed it."""

    id = fields.CharField(ID_LENGTH, primary_key=True)
    kind = fields.CharField(16)  # point, device, zone, premises
    subject = fields.CharField(ID_LENGTH)  # of a point: its device
    point = fields.CharField(ID_LENGTH)
    premises = fields.CharField(ID_LENGTH)  # where it is; "" for a device that stands nowhere
    reason = fields.CharField(TITLE_LENGTH)
    by = fields.CharField(ID_LENGTH)
    asked_ms = fields.BigIntField()
    until_ms = fields.BigIntField(db_index=True)
    confirmed_by = fields.CharField(ID_LENGTH)
    started_ms = fields.BigIntField(null=True)
    ended_ms = fields.BigIntField(null=True)
    ended_by = fields.CharField(ID_LENGTH)

    class Meta:
        """Table."""

        table = "disablement"


class OwnerKeyRow(Model):
    """What the links of owners are signed with: one row."""

    id = fields.IntField(primary_key=True, generated=False)
    key = fields.CharField(SHA256_HEX_LENGTH)  # hex
    made_ms = fields.BigIntField()

    class Meta:
        """Table."""

        table = "owner_key"


class WalkRow(Model):
    """A walk test of a premises, or of one of its zones."""

    id = fields.CharField(ID_LENGTH, primary_key=True)
    premises = fields.CharField(ID_LENGTH)
    zone = fields.CharField(ID_LENGTH)  # "" for all of them
    by = fields.CharField(ID_LENGTH)
    started_ms = fields.BigIntField()
    until_ms = fields.BigIntField(db_index=True)
    ended_ms = fields.BigIntField(null=True)
    ended_by = fields.CharField(ID_LENGTH)

    class Meta:
        """Table."""

        table = "walk_test"
