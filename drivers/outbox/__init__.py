"""A gateway's outbox: readings on disk until the core says that it has stored them (`box` draws how)."""

from drivers.outbox.box import Outbox
from drivers.outbox.file import Limits
from drivers.outbox.rows import Row, held_back

__all__ = ["Limits", "Outbox", "Row", "held_back"]
