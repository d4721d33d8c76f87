"""`iotcore user …`, `iotcore apitoken …`, `iotcore approval …`: who may do what, and what takes two persons."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from iotcore.process.credentials import environment
from iotcore.settings import Settings, load

Command = Callable[..., argparse.ArgumentParser]
Nouns = Any  # argparse names the type of a sub-command's home privately
ROLES = "admin, technician, dispatcher, viewer or auditor; ROLE@AREA for one area and all in it"


def add(nouns: Nouns, command: Command) -> None:
    """Add the nouns; `command` makes a parser for one verb, as `cli` does."""
    _add_user(nouns.add_parser("user", help="users and their roles").add_subparsers(required=True, metavar="COMMAND"), command)
    _add_token(nouns.add_parser("apitoken", help="tokens of programs").add_subparsers(required=True, metavar="COMMAND"), command)
    verbs = nouns.add_parser("approval", help="what takes two admins").add_subparsers(required=True, metavar="COMMAND")
    listing = command(verbs, "list", "what was asked for, the newest first", _approvals)
    listing.add_argument("--waiting", action="store_true", help="only what can still be decided")
    listing.add_argument("-o", "--output", choices=("table", "json"), default="table")
    for verb, text in (("approve", "say yes to what another admin has asked for"), ("reject", "say no")):
        deciding = command(verbs, verb, text, _decide)
        deciding.add_argument("number", type=int)
        deciding.set_defaults(approve=verb == "approve")


def _alone_option(parser: argparse.ArgumentParser) -> None:
    """The option that breaks the glass."""
    parser.add_argument("--alone", default="", metavar="REASON", help="without a second admin: the audit tells it aloud")


def _add_user(verbs: Nouns, command: Command) -> None:
    adding = command(verbs, "add", "register a user; `user link` then lets them in", _add)
    adding.add_argument("name")
    adding.add_argument("--role", action="append", default=[], help=ROLES)
    adding.add_argument("--full-name", default="")
    adding.add_argument("--subject", default="", help="who they are at the OpenID provider (claim `sub`)")
    listing = command(verbs, "list", "all users", _list)
    listing.add_argument("-o", "--output", choices=("table", "json"), default="table")
    disabling = command(verbs, "disable", "nobody gets in as this user any more; sessions and tokens end", _able)
    enabling = command(verbs, "enable", "a disabled user may sign in again", _able)
    disabling.set_defaults(enable=False)
    enabling.set_defaults(enable=True)
    granting = command(verbs, "grant", "give a role", _grant)
    revoking = command(verbs, "revoke", "take a role away", _grant)
    for parser, take in ((granting, False), (revoking, True)):
        parser.add_argument("name")
        parser.add_argument("role", help=ROLES)
        parser.set_defaults(take=take)
    password = command(verbs, "password", "set a password, from the terminal or standard input; all sessions end", _password)
    link = command(verbs, "link", "a link that signs a user in, once; without a name: that makes the first admin", _link)
    sessions = command(verbs, "sessions", "where a user is signed in, or with --end: nowhere any more", _sessions)
    sessions.add_argument("--end", action="store_true", help="end them all")
    sessions.add_argument("-o", "--output", choices=("table", "json"), default="table")
    for parser in (disabling, enabling, password, sessions):
        parser.add_argument("name")
    link.add_argument("name", nargs="?", default="")
    link.add_argument("--hours", type=float, default=1.0, help="how long it may be used (default: %(default)s)")
    for parser in (adding, disabling, enabling, granting, revoking, password, link):
        _alone_option(parser)


def _add_token(verbs: Nouns, command: Command) -> None:
    creating = command(verbs, "create", "a token for a program; it is printed once", _create_token)
    creating.add_argument("user", help="who answers for it")
    creating.add_argument("name", help="what it is for")
    creating.add_argument("--role", action="append", required=True, help=f"a part of its owner's: {ROLES}")
    creating.add_argument("--days", type=float, default=90.0, help="how long it is good for (default: %(default)s)")
    _alone_option(creating)
    listing = command(verbs, "list", "all tokens", _tokens)
    listing.add_argument("-o", "--output", choices=("table", "json"), default="table")
    revoking = command(verbs, "revoke", "a token is worth nothing any more", _revoke_token)
    revoking.add_argument("user")
    revoking.add_argument("name")


def _settings(options: argparse.Namespace) -> Settings:
    return load(options.config, environment(os.environ))


def _add(options: argparse.Namespace) -> int:
    from iotcore.commands import people

    who = {"full_name": options.full_name, "subject": options.subject}
    asyncio.run(people.add(_settings(options), options.name, options.role, options.alone, **who))
    return _said(f"{options.name} is registered; let them in: iotcore user link {options.name}")


def _list(options: argparse.Namespace) -> int:
    from iotcore.commands import people

    return _table(asyncio.run(people.everybody(_settings(options))), options.output)


def _able(options: argparse.Namespace) -> int:
    from iotcore.commands import people

    work = people.able(_settings(options), options.name, options.alone, enable=options.enable)
    word = "enabled" if options.enable else "disabled"
    return _said(f"{options.name} is {word}" if asyncio.run(work) else f"{options.name} was {word} before")


def _grant(options: argparse.Namespace) -> int:
    from iotcore.commands import people

    work = people.give(_settings(options), options.name, options.role, options.alone, take=options.take)
    changed = asyncio.run(work)
    has = "has no longer" if options.take else "has"
    return _said(f"{options.name} {has} {options.role}" + ("" if changed else ": so it was before"))


def _password(options: argparse.Namespace) -> int:
    from iotcore.commands import people

    password = getpass.getpass("New password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    asyncio.run(people.set_password(_settings(options), options.name, password, options.alone))
    return _said(f"The password of {options.name} is set; all sessions have ended")


def _sessions(options: argparse.Namespace) -> int:
    from iotcore.commands import people

    if options.end:
        return _said(
            f"{asyncio.run(people.end_sessions(_settings(options), options.name))} sessions of {options.name} have ended"
        )
    return _table(asyncio.run(people.sessions(_settings(options), options.name)), options.output)


def _link(options: argparse.Namespace) -> int:
    from iotcore.commands import people

    return _said(asyncio.run(people.link(_settings(options), options.name, options.hours, options.alone)))


def _create_token(options: argparse.Namespace) -> int:
    from iotcore.commands import people

    work = people.create_token(_settings(options), options.user, options.name, options.role, options.alone, days=options.days)
    return _said(asyncio.run(work))


def _tokens(options: argparse.Namespace) -> int:
    from iotcore.commands import people

    return _table(asyncio.run(people.tokens(_settings(options))), options.output)


def _revoke_token(options: argparse.Namespace) -> int:
    from iotcore.commands import people

    done = asyncio.run(people.revoke_token(_settings(options), options.user, options.name))
    _said(f"{options.user}/{options.name} is revoked" if done else f"{options.user}/{options.name} is no token that is in use")
    return 0 if done else 1


def _approvals(options: argparse.Namespace) -> int:
    from iotcore.commands import people

    return _table(asyncio.run(people.approvals(_settings(options), waiting=options.waiting)), options.output)


def _decide(options: argparse.Namespace) -> int:
    from iotcore.commands import people

    return _said(asyncio.run(people.decide(_settings(options), options.number, approve=options.approve)))


def _table(rows: list[dict[str, object]], output: str) -> int:
    if output == "json":
        return _said(json.dumps(rows, ensure_ascii=False, indent=2))
    for row in rows:
        _said("  ".join(f"{key}={value}" for key, value in row.items() if value not in (None, "")))
    return 0


def _said(text: str) -> int:
    print(text)  # noqa: T201 - what the command is for
    return 0
