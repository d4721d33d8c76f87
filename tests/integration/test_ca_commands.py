"""`iotcore ca …` as an operator runs it, beside a broker process that runs all along."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from iotcore.clock import ManualClock, SystemClock
from iotcore.commands.ca import plain
from iotcore.process import home
from iotcore.provision.acl import BrokerName
from iotcore.provision.ca import Anchor, Authority
from iotcore.provision.standing import standings
from iotcore.settings import load
from tests.support import commands
from tests.support.brokers import Site, accepted, becomes
from tests.support.earlier import earlier_authority
from tests.support.pki import PASSPHRASE, authority
from tests.support.ports import free_port

FIRE = BrokerName.FIRE
ENVIRONMENT = {**os.environ, "IOTCORE_CA_PASSPHRASE": PASSPHRASE.decode()}


@dataclass
class Office:
    """A data folder with its settings, and the command line."""

    folder: Path

    def __post_init__(self) -> None:
        ports = f"[brokers.fire]\nport = {free_port()}\n[brokers.field]\nport = {free_port()}\n"
        (self.folder / "iotcore.toml").write_text(f'data = "{self.folder}"\n{ports}', encoding="utf-8")

    def command(self, words: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "iotcore", *words, "--config", str(self.folder / "iotcore.toml")]

    async def run(self, *words: str) -> tuple[int, str]:
        done = await asyncio.to_thread(commands.run, *words, "--config", self.folder / "iotcore.toml", env=ENVIRONMENT)
        return done.returncode, done.stdout + done.stderr

    async def done(self, *words: str) -> str:
        code, said = await self.run(*words)
        assert code == 0, said
        return said

    async def status(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(await self.done("ca", "status", "-o", "json"))
        return rows

    def opened(self) -> Authority:
        return Authority.open(self.folder / "ca", PASSPHRASE, SystemClock())

    def audited(self) -> list[tuple[str, str]]:
        with sqlite3.connect(self.folder / "registry.db") as connection:
            return connection.execute("SELECT by, action FROM audit WHERE action LIKE 'ca_%' ORDER BY rowid").fetchall()

    @asynccontextmanager
    async def broker(self) -> AsyncIterator[Site]:
        """`iotcore run broker-fire`, and how to reach it."""
        await self.done("init")
        process = await asyncio.create_subprocess_exec(
            *self.command(["run", "broker-fire"]), stderr=asyncio.subprocess.DEVNULL, env=ENVIRONMENT
        )
        try:
            settings = load(self.folder / "iotcore.toml", {})
            site = Site(self.folder, "mosquitto", self.opened(), {FIRE: home.broker_home(settings, FIRE)})
            assert await becomes(site, FIRE, site.service("svc.fire.1.in"), wanted=True)
            yield site
        finally:
            process.terminate()
            await process.wait()


async def rotates(office: Office, *words: str) -> None:
    """Rotate the fire anchor while the broker runs and a device from before is connected; then a new one comes as well."""
    async with office.broker() as site:
        old = site.device("old-1")
        async with site.client(FIRE, site.service("svc.fire.1.in")) as lane, site.client(FIRE, old) as device:
            await lane.listen("iot/v1/fire/+/up/#")
            said = await office.done("ca", "rotate", "fire", "--by", "duty", *words)
            assert said.startswith("fire-") and " signs from now on; fire-" in said  # noqa: PT018 - one line
            assert await becomes(site, FIRE, site.device("new-1"), wanted=True)
            await device.say("iot/v1/fire/old-1/up/reading/old-1")
            await lane.until(bool)
        assert await accepted(site, FIRE, old)
    assert office.audited() == [("duty", "ca_rotate")]


async def test_rotate_makes_a_new_issuing_authority_under_a_running_broker(tmp_path: Path) -> None:
    authority(tmp_path)
    office = Office(tmp_path)
    await rotates(office)
    rows = await office.status()
    assert [(row["anchor"], row["number"], row["state"]) for row in rows] == [
        ("fire", 2, "signs"), ("fire", 1, "retired"), ("field", 1, "signs"), ("service", 1, "signs"),
    ]  # fmt: skip
    assert rows[0]["root"] == rows[1]["root"]
    assert 89.9 <= rows[1]["trusted_days"] <= 90.0
    assert [row["crl"] for row in rows] == ["fire-2.crl", "fire-1.crl", "field-1.crl", "service-1.crl"]
    assert all(167.0 < row["crl_hours_left"] <= 168.0 and row["root_key"] == "here" for row in rows)


async def test_rotate_moves_an_installation_of_the_release_before_over(tmp_path: Path) -> None:
    earlier_authority(tmp_path)
    office = Office(tmp_path)
    rows = await office.status()
    assert [(row["number"], row["root_key"]) for row in rows] == [(0, "signs")] * 3
    code, said = await office.run("ca", "rotate", "fire")
    assert code == 1
    assert "may sign devices, and no issuing authority. Give --new-root" in said
    await rotates(office, "--new-root")
    assert [row["state"] for row in await office.status()] == ["signs", "retired", "signs", "signs"]


async def test_the_keys_of_the_roots_are_taken_away_and_brought_for_the_next_authority(tmp_path: Path) -> None:
    office, away = Office(tmp_path), tmp_path / "usb"
    said = await office.done("ca", "init", "--root-keys", str(away), "--by", "duty")
    assert sorted(path.name for path in away.iterdir()) == ["field-1-root.key", "fire-1-root.key", "service-1-root.key"]
    assert all(str(path) in said for path in away.iterdir())
    assert {row["root_key"] for row in await office.status()} == {"elsewhere"}
    code, said = await office.run("ca", "issue-intermediate", "field")
    assert code == 1
    assert "Bring the key, and name its file with --root-key" in said
    said = await office.done("ca", "issue-intermediate", "field", "--root-key", str(away / "field-1-root.key"), "--by", "duty")
    assert said == "field-2 is announced: trusted from now on, signing nothing yet\n"
    assert [row["state"] for row in await office.status() if row["anchor"] == "field"] == ["signs", "announced"]
    assert await office.done("ca", "rotate", "field", "--by", "duty") == (
        "field-2 signs from now on; field-1 is trusted meanwhile\n"
    )
    assert office.audited() == [("duty", "ca_init"), ("duty", "ca_announce"), ("duty", "ca_rotate")]


async def test_a_new_service_root_is_announced_first(tmp_path: Path) -> None:
    office, file = Office(tmp_path), tmp_path / "certs" / "service-root.pem"
    await office.done("init")
    before = file.read_bytes()
    code, said = await office.run("ca", "rotate", "service", "--new-root")
    assert code == 1
    assert "Devices know the present service root alone. Announce it" in said
    assert file.read_bytes() == before
    await office.done("ca", "issue-intermediate", "service", "--new-root")
    assert file.read_bytes().startswith(before)
    assert len(x509.load_pem_x509_certificates(file.read_bytes())) == 2
    await office.done("ca", "rotate", "service")
    assert len(x509.load_pem_x509_certificates(file.read_bytes())) == 2
    assert office.opened().root(Anchor.SERVICE) == x509.load_pem_x509_certificate(file.read_bytes())


async def test_a_command_that_is_refused_changes_and_audits_nothing(tmp_path: Path) -> None:
    office = Office(tmp_path)
    code, said = await office.run("ca", "status")
    assert code == 1
    assert "Make it: iotcore ca init" in said
    assert not (tmp_path / "ca").exists()
    await office.done("ca", "init", "--by", "duty")
    (tmp_path / "other.key").write_bytes((tmp_path / "ca" / "fire" / "1" / "root.key").read_bytes())
    code, said = await office.run("ca", "rotate", "field", "--root-key", str(tmp_path / "other.key"))
    assert code == 1
    assert "other.key is not the key of CN=iotcore field root" in said
    assert office.audited() == [("duty", "ca_init")]
    assert not (tmp_path / "ca" / "field" / "2").exists()


def test_what_runs_out_is_said(tmp_path: Path) -> None:
    clock = ManualClock()
    ours = authority(tmp_path, clock)
    assert {standing.attention for standing in standings(ours, clock)} == {""}
    clock.advance(5.1 * 86_400)
    assert {standing.attention[:12] for standing in standings(ours, clock)} == {"its list run"}
    clock.advance(4 * 365 * 86_400)
    ours.republish()
    assert {standing.attention for standing in standings(ours, clock)} == {"it runs out in less than a year: iotcore ca rotate"}
    assert plain(standings(ours, clock)[0])["days_left"] == 359.9
