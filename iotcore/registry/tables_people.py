"""Tables of people: users, their grants, sessions, API tokens, one-time links, and what waits for a second person.

As in `tables`: times are whole milliseconds UTC, "" means none, references that may be missing are NULL. No secret is stored:
passwords as argon2id, everything random as SHA-256.
"""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model

from iotcore.registry.tables import ID_LENGTH, SHA256_HEX_LENGTH, TEXT_LENGTH, TITLE_LENGTH, AreaRow

NAME_LENGTH = 40  # leaves room for "/" and a token's name in an audit entry's `by`
ROLE_LENGTH = 16


class UserRow(Model):
    """Somebody who may sign in."""

    name = fields.CharField(NAME_LENGTH, primary_key=True)
    full_name = fields.CharField(TITLE_LENGTH, default="")
    password = fields.CharField(TITLE_LENGTH, default="")  # argon2id; "" means that none lets anybody in
    subject = fields.CharField(TITLE_LENGTH, null=True, unique=True)  # "issuer subject" of an OpenID provider
    disabled_ms = fields.BigIntField(null=True)
    made_ms = fields.BigIntField()

    class Meta:
        """Table."""

        table = "person"  # "user" is a word of SQL


class GrantRow(Model):
    """A role of a user, everywhere or in an area."""

    id = fields.BigIntField(primary_key=True)
    user: fields.ForeignKeyRelation[UserRow] = fields.ForeignKeyField("registry.UserRow", on_delete=fields.RESTRICT)
    user_id: str
    role = fields.CharField(ROLE_LENGTH)
    area: fields.ForeignKeyNullableRelation[AreaRow] = fields.ForeignKeyField(
        "registry.AreaRow", null=True, on_delete=fields.RESTRICT
    )
    area_id: str | None
    source = fields.CharField(8)  # local, or oidc: replaced at each login by what the provider says

    class Meta:
        """Table."""

        table = "person_grant"


class SessionRow(Model):
    """A browser that has signed in; kept for a time after its end, to know the browser again."""

    hash = fields.CharField(SHA256_HEX_LENGTH, primary_key=True)
    user: fields.ForeignKeyRelation[UserRow] = fields.ForeignKeyField("registry.UserRow", on_delete=fields.RESTRICT)
    user_id: str
    browser = fields.CharField(SHA256_HEX_LENGTH, db_index=True)  # hash of the cookie by which the browser is known again
    way = fields.CharField(8)  # password, link, oidc
    address = fields.CharField(ID_LENGTH)
    agent = fields.CharField(TITLE_LENGTH, default="")
    made_ms = fields.BigIntField()
    seen_ms = fields.BigIntField()  # to within a tenth of the idle limit
    expires_ms = fields.BigIntField()
    ended_ms = fields.BigIntField(null=True)

    class Meta:
        """Table."""

        table = "session"


class ApiTokenRow(Model):
    """A token of a program; its owner answers for it, and it may do nothing that its owner may not."""

    id = fields.BigIntField(primary_key=True)
    hash = fields.CharField(SHA256_HEX_LENGTH, unique=True)
    user: fields.ForeignKeyRelation[UserRow] = fields.ForeignKeyField("registry.UserRow", on_delete=fields.RESTRICT)
    user_id: str
    name = fields.CharField(20)
    grants = fields.CharField(TEXT_LENGTH)  # canonical JSON: [[role, area], …]
    made_ms = fields.BigIntField()
    expires_ms = fields.BigIntField()
    revoked_ms = fields.BigIntField(null=True)

    class Meta:
        """Table."""

        table = "api_token"
        unique_together = (("user", "name"),)


class LinkRow(Model):
    """A link that works once: it makes the first admin (no user), or signs its user in."""

    hash = fields.CharField(SHA256_HEX_LENGTH, primary_key=True)
    user: fields.ForeignKeyNullableRelation[UserRow] = fields.ForeignKeyField(
        "registry.UserRow", null=True, on_delete=fields.RESTRICT
    )
    user_id: str | None
    made_ms = fields.BigIntField()
    expires_ms = fields.BigIntField()
    used_ms = fields.BigIntField(null=True)

    class Meta:
        """Table."""

        table = "sign_in_link"


class ApprovalRow(Model):
    """Something that takes two persons: who asked for what, who answered, whether it was done."""

    id = fields.BigIntField(primary_key=True)
    action = fields.CharField(40)
    arguments = fields.CharField(TEXT_LENGTH)  # canonical JSON, for whoever decides
    hash = fields.CharField(SHA256_HEX_LENGTH, db_index=True)  # of action and arguments
    asked_by = fields.CharField(NAME_LENGTH)
    asked_ms = fields.BigIntField()
    expires_ms = fields.BigIntField()
    state = fields.CharField(10)  # asked, approved, rejected, used
    decided_by = fields.CharField(NAME_LENGTH, default="")
    decided_ms = fields.BigIntField(null=True)

    class Meta:
        """Table."""

        table = "approval"
