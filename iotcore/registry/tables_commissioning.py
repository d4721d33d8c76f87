"""Tables of commissioning: who is in test mode, who was tested last, and what technicians told of a device and its place.

Times are whole milliseconds UTC.
"""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from iotcore.registry.tables import ID_LENGTH, SHA256_HEX_LENGTH, DeviceRow


class InTestRow(Model):
    """The last test mode of a device; it is in test mode until `until_ms`, or until somebody ended it."""

    device: fields.OneToOneRelation[DeviceRow] = fields.OneToOneField(
        "registry.DeviceRow", on_delete=fields.RESTRICT, primary_key=True
    )
    device_id: str
    started_ms = fields.BigIntField()
    until_ms = fields.BigIntField(db_index=True)
    by = fields.CharField(ID_LENGTH)
    ended_ms = fields.BigIntField(null=True)

    class Meta:
        """Table."""

        table = "test_mode"


class DeviceTestRow(Model):
    """The last test alarm of a device that went the whole road: when, and how many ms it took to be durable."""

    device: fields.OneToOneRelation[DeviceRow] = fields.OneToOneField(
        "registry.DeviceRow", on_delete=fields.RESTRICT, primary_key=True
    )
    device_id: str
    at_ms = fields.BigIntField(db_index=True)
    latency_ms = fields.FloatField()
    by = fields.CharField(ID_LENGTH)

    class Meta:
        """Table."""

        table = "device_test"


class EntryRow(Model):
    """Something that a technician told of a device; the name is made by the phone, so that a repeat is known. Never changed."""

    id = fields.CharField(ID_LENGTH, primary_key=True)
    device: fields.ForeignKeyRelation[DeviceRow] = fields.ForeignKeyField("registry.DeviceRow", on_delete=fields.RESTRICT)
    device_id: str
    number = fields.IntField()
    kind = fields.CharField(16)
    body = fields.TextField()  # canonical JSON, as the phone told it
    outcome = fields.TextField(default="{}")  # canonical JSON, what was found when it came in
    at_ms = fields.BigIntField()
    received_ms = fields.BigIntField()
    by = fields.CharField(ID_LENGTH)
    file = fields.CharField(SHA256_HEX_LENGTH, default="")

    class Meta:
        """Table."""

        table = "commissioning_entry"
        unique_together = (("device", "number"),)
