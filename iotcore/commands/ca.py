"""`iotcore ca …`: make the authority, take its root keys away, look at it, and let one issuing authority follow another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

from iotcore.clock import Clock
from iotcore.commands import office, who
from iotcore.errors import StartError
from iotcore.process import home
from iotcore.provision import alternate
from iotcore.provision.acl import BrokerName
from iotcore.provision.broker import refresh_crl
from iotcore.provision.ca import COMPLETE, Anchor, Authority
from iotcore.provision.files import make_folder, write_whole
from iotcore.provision.issuers import Module
from iotcore.provision.standing import Standing, standings
from iotcore.settings import Settings

ANNOUNCE_FIRST = (
    "Announce it (iotcore ca issue-intermediate service --new-root), bring the new certs/service-root.pem to every gateway "
    "and device, then rotate; after a theft: --at-once, and whoever does not have it yet is locked out until it has."
)


async def init(settings: Settings, clock: Clock, root_keys: Path | None, by: str, at: Module | None = None) -> list[str]:
    """Make the authority if there is none; move the keys of its roots to `root_keys`. What was done, in lines.

    `at`: the issuing keys are made in this security module.

    Raises:
        StartError: with the thing in the way.
    """
    home.check_folder(settings.folder)
    if at is not None and (settings.folder / "ca" / COMPLETE).exists():
        raise StartError(
            "There is an authority already", "Let one with a key in the module follow: iotcore ca issue-intermediate."
        )
    async with _acting(settings, clock, "ca_init", by, at) as (authority, done):
        for anchor in Anchor:
            done.append(f"{anchor.value}: {authority.issuers(anchor).signs.certificate.subject.rfc4514_string()}")
        if root_keys is not None:
            done += [f"{path}: keep it apart from this machine" for path in authority.take_root_keys(root_keys)]
    return done


async def announce(
    settings: Settings,
    clock: Clock,
    anchor: Anchor,
    by: str,
    *,
    new_root: bool,
    root_key: Path | None,
    at: Module | None = None,
    alone: str = "",
) -> list[str]:
    """Make the next issuing authority of `anchor` and have it trusted; it signs nothing yet.

    Raises:
        StartError: the root's key is not here, or the root may have none below it.
        Refused: `second_person`, or another reason of the two-person rule.
    """
    by = await _approved(settings, by, "ca.issue-intermediate", {"anchor": anchor.value, "new_root": new_root, **_in(at)}, alone)
    async with _acting(settings, clock, "ca_announce", by) as (authority, done):
        signer = authority.announce(anchor, new_root=new_root, root_key=root_key, at=at)
        done.append(f"{anchor.value}-{signer.number} is announced: trusted from now on, signing nothing yet")
    return done


async def rotate(
    settings: Settings,
    clock: Clock,
    anchor: Anchor,
    by: str,
    *,
    new_root: bool,
    root_key: Path | None,
    at_once: bool,
    at: Module | None = None,
    alone: str = "",
) -> list[str]:
    """The announced issuing authority (else a new one) signs from now on; the one before stays trusted meanwhile.

    Raises:
        StartError: as `announce`; or devices would meet a root that nobody has told them of.
        Refused: `second_person`, or another reason of the two-person rule.
    """
    by = await _approved(
        settings, by, "ca.rotate", {"anchor": anchor.value, "new_root": new_root, "at_once": at_once, **_in(at)}, alone
    )
    async with _acting(settings, clock, "ca_rotate", by) as (authority, done):
        if authority.issuers(anchor).announced is None:
            if new_root and anchor is Anchor.SERVICE and not at_once:
                raise StartError("Devices know the present service root alone", ANNOUNCE_FIRST)
            authority.announce(anchor, new_root=new_root, root_key=root_key, at=at)
            _hand_out(settings, authority)  # the brokers know it before the first certificate of it comes
        before, signer = authority.issuers(anchor).signs, authority.rotate(anchor)
        done.append(f"{anchor.value}-{signer.number} signs from now on; {anchor.value}-{before.number} is trusted meanwhile")
    return done


def status(settings: Settings, clock: Clock) -> list[Standing]:
    """Every issuer that counts.

    Raises:
        StartError: there is no authority yet, or a file of it is missing.
    """
    if not (settings.folder / "ca").exists():
        raise StartError(f"There is no authority in {settings.folder}", "Make it: iotcore ca init")
    return standings(home.authority(settings, clock), clock)


def plain(standing: Standing) -> dict[str, object]:
    """The same for JSON and tables; days and hours to a tenth."""
    return {key: round(value, 1) if isinstance(value, float) else value for key, value in asdict(standing).items()}


def _in(at: Module | None) -> dict[str, object]:
    """Where the key is made, as far as the other person has to know."""
    return {"module": at.library, "token": at.token} if at is not None else {}


async def _approved(settings: Settings, by: str, action: str, arguments: dict[str, object], alone: str) -> str:
    """Whose deed it is, once another admin has said yes: the user that is known, else `by`; raises Refused."""
    home.check_folder(settings.folder)
    async with who.opened(settings) as desk:
        await desk.second_person(action, arguments, alone)
        return desk.by if desk.user else by


@asynccontextmanager
async def _acting(
    settings: Settings, clock: Clock, action: str, by: str, at: Module | None = None
) -> AsyncIterator[tuple[Authority, list[str]]]:
    """The authority, to change; then everybody here is given the result, and the audit what was done."""
    async with office.opened(settings) as registry:  # first: what cannot be audited is not done
        authority, done = home.authority(settings, clock, at), list[str]()
        yield authority, done
        _hand_out(settings, authority)
        await registry.note(by, action, "authority", "; ".join(done))


def _hand_out(settings: Settings, authority: Authority) -> None:
    """What our clients trust, and what the brokers here trust; a running broker reads it within seconds."""
    write_whole(make_folder(settings.folder / "certs") / "service-root.pem", authority.root_pem(Anchor.SERVICE))
    alternate.refresh(authority, home.given(settings))
    for name in BrokerName:
        broker = home.broker_home(settings, name)
        if home.broker_settings(settings, name).run != "external" and broker.configuration.exists():
            refresh_crl(authority, broker)
