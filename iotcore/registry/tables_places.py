"""Tables of what belongs to places: contacts, files, notes, configurations, and the units that stood somewhere.

As in `tables`: times are whole milliseconds UTC, "" means none, references that may be missing are NULL.
"""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from iotcore.registry.tables import ID_LENGTH, SHA256_HEX_LENGTH, TITLE_LENGTH, DeviceRow, PremisesRow

NOTE_LENGTH = 4_000


class ContactRow(Model):
    """Whom a crew calls for a building; `key_holder`: who can open it."""

    id = fields.CharField(ID_LENGTH, primary_key=True)
    premises: fields.ForeignKeyRelation[PremisesRow] = fields.ForeignKeyField("registry.PremisesRow", on_delete=fields.RESTRICT)
    premises_id: str
    name = fields.CharField(TITLE_LENGTH)
    role = fields.CharField(TITLE_LENGTH, default="")
    phone = fields.CharField(40, default="")
    email = fields.CharField(TITLE_LENGTH, default="")
    key_holder = fields.BooleanField(default=False)

    class Meta:
        """Table."""

        table = "contact"


class AttachmentRow(Model):
    """A file of a building or a device: a floor plan, a photo, a record. Its content lies in a folder, by its hash."""

    id = fields.CharField(ID_LENGTH, primary_key=True)
    premises: fields.ForeignKeyNullableRelation[PremisesRow] = fields.ForeignKeyField(
        "registry.PremisesRow", null=True, on_delete=fields.RESTRICT
    )
    premises_id: str | None
    device: fields.ForeignKeyNullableRelation[DeviceRow] = fields.ForeignKeyField(
        "registry.DeviceRow", null=True, on_delete=fields.RESTRICT
    )
    device_id: str | None
    kind = fields.CharField(20)  # floor_plan, photo, record
    title = fields.CharField(TITLE_LENGTH)
    media_type = fields.CharField(60)
    size = fields.BigIntField()  # bytes
    sha256 = fields.CharField(SHA256_HEX_LENGTH, db_index=True)
    by = fields.CharField(ID_LENGTH)
    at_ms = fields.BigIntField()

    class Meta:
        """Table."""

        table = "attachment"


class NoteRow(Model):
    """What somebody wrote about a device or a building."""

    id = fields.BigIntField(primary_key=True)
    premises: fields.ForeignKeyNullableRelation[PremisesRow] = fields.ForeignKeyField(
        "registry.PremisesRow", null=True, on_delete=fields.RESTRICT
    )
    premises_id: str | None
    device: fields.ForeignKeyNullableRelation[DeviceRow] = fields.ForeignKeyField(
        "registry.DeviceRow", null=True, on_delete=fields.RESTRICT
    )
    device_id: str | None
    text = fields.CharField(NOTE_LENGTH)
    by = fields.CharField(ID_LENGTH)
    at_ms = fields.BigIntField()

    class Meta:
        """Table."""

        table = "note"


class ConfigRow(Model):
    """A version of a device's configuration: what is wanted of it, or what it says that it has."""

    id = fields.BigIntField(primary_key=True)
    device: fields.ForeignKeyRelation[DeviceRow] = fields.ForeignKeyField("registry.DeviceRow", on_delete=fields.RESTRICT)
    device_id: str
    side = fields.CharField(8)  # desired, reported
    version = fields.BigIntField()
    body = fields.TextField()  # canonical JSON
    by = fields.CharField(ID_LENGTH)
    at_ms = fields.BigIntField()

    class Meta:
        """Table."""

        table = "device_config"
        unique_together = (("device", "side", "version"),)


class UnitRow(Model):
    """A piece of hardware that stands, or stood, where a device is: a device is a place, its unit may be replaced."""

    id = fields.BigIntField(primary_key=True)
    device: fields.ForeignKeyRelation[DeviceRow] = fields.ForeignKeyField("registry.DeviceRow", on_delete=fields.RESTRICT)
    device_id: str
    serial = fields.CharField(ID_LENGTH)
    model = fields.CharField(ID_LENGTH)
    from_ms = fields.BigIntField()
    to_ms = fields.BigIntField(null=True)
    why = fields.CharField(TITLE_LENGTH, default="")  # why it went

    class Meta:
        """Table."""

        table = "unit"
