"""Tables of dynamic groups, and of how much of the city was covered each day.

As in `tables`: times are whole milliseconds UTC.
"""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from iotcore.registry.tables import ID_LENGTH, TITLE_LENGTH


class GroupRow(Model):
    """A dynamic group: who is in it is found by its query; each change counts its version up."""

    id = fields.CharField(ID_LENGTH, primary_key=True)
    title = fields.CharField(TITLE_LENGTH)
    query = fields.TextField()  # canonical JSON
    version = fields.BigIntField()
    by = fields.CharField(ID_LENGTH)
    at_ms = fields.BigIntField()

    class Meta:
        """Table."""

        table = "device_group"


class CoverageRow(Model):
    """The key sites of an area on a day of the city's calendar, as a cell saw them. "" is the whole registry.

    An area is named, not referred to: its history outlives it.
    """

    id = fields.BigIntField(primary_key=True)
    day = fields.CharField(10)  # 2026-11-26
    cell = fields.CharField(32, default="")
    area = fields.CharField(ID_LENGTH, default="")
    key_sites = fields.IntField()
    watched = fields.IntField()
    covered = fields.IntField()
    at_ms = fields.BigIntField()

    class Meta:
        """Table."""

        table = "coverage"
        unique_together = (("day", "cell", "area"),)
