"""Tables of what belongs to certificates. As in `tables`: times are whole milliseconds UTC."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from iotcore.registry.tables import ID_LENGTH, CertificateRow


class SupersededRow(Model):
    """A certificate that a newer one of the same name and anchor has replaced: the newer one has connected."""

    certificate: fields.OneToOneRelation[CertificateRow] = fields.OneToOneField(
        "registry.CertificateRow", on_delete=fields.RESTRICT, primary_key=True
    )
    certificate_id: str
    newer = fields.CharField(ID_LENGTH)  # the serial of the one that has connected
    at_ms = fields.BigIntField()

    class Meta:
        """Table."""

        table = "certificate_superseded"
