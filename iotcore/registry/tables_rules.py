"""Tables of fire rules: the documents as they are, and every version that each of them ever had.

As in `tables`: times are whole milliseconds UTC.
"""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from iotcore.registry.tables import ID_LENGTH, TITLE_LENGTH


class RuleRow(Model):
    """A rule document; each change counts its version up."""

    key = fields.CharField(TITLE_LENGTH, primary_key=True)
    body = fields.TextField()  # canonical JSON
    version = fields.BigIntField()
    by = fields.CharField(ID_LENGTH)
    at_ms = fields.BigIntField()

    class Meta:
        """Table."""

        table = "rule_document"


class RuleVersionRow(Model):
    """A version of a rule document; an empty body is its removal. Versions outlive the document."""

    id = fields.BigIntField(primary_key=True)
    key = fields.CharField(TITLE_LENGTH)
    version = fields.BigIntField()
    body = fields.TextField()
    by = fields.CharField(ID_LENGTH)
    at_ms = fields.BigIntField()

    class Meta:
        """Table."""

        table = "rule_version"
        unique_together = (("key", "version"),)
