"""A restore, on SQLite and PostgreSQL: everything is there again, or nothing has changed; one that was killed is made again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from iotcore.app.common import recorded
from iotcore.clock import ManualClock
from iotcore.commands import restore
from iotcore.errors import StartError
from iotcore.process import home
from iotcore.provision import heads
from iotcore.provision.ca import Anchor, IssuedCertificate
from iotcore.settings import load
from tests.support import commands
from tests.support.backed_up import Kept, rows, state_of
from tests.support.postgres import Postgres

pytestmark = pytest.mark.timeout(120)
HOUR_S = 3_600.0
NEW = "new"
HEADS = Path("audit", "heads", heads.HEADS_FILE)


@pytest.fixture
def kept(registry_url: str, tmp_path: Path) -> Kept:
    made = Kept(tmp_path / "platform", ManualClock(), registry_url if registry_url.startswith("postgres") else "")
    made.root.mkdir()
    made.begin()
    return made


@pytest.fixture
def plain(tmp_path: Path) -> Kept:
    """Where the registry makes no difference."""
    made = Kept(tmp_path / "platform", ManualClock())
    made.root.mkdir()
    made.begin()
    return made


def restored_to(kept: Kept, file: Path, **more: Any) -> tuple[restore.Report, str]:
    """Restore elsewhere, as after a loss; the report, and the URL of the registry there."""
    report = kept.restore(file, kept.root / NEW, **{"over": bool(kept.url), **more})
    return report, kept.url or f"sqlite://{report.folder / 'registry.db'}"


def certified(kept: Kept, device: str) -> IssuedCertificate:
    """A certificate, issued and recorded."""
    issued = kept.authority().issue_device(Anchor.FIRE, ec.generate_private_key(ec.SECP256R1()).public_key(), device)
    kept.ask(lambda registry: registry.record_certificate(recorded(issued), "est"))
    return issued


def test_everything_is_there_again(kept: Kept) -> None:
    name = kept.burn(1)
    certified(kept, "d1")
    (kept.data / "files").mkdir()
    (kept.data / "files" / "plan.pdf").write_bytes(b"%PDF a floor plan")
    before = kept.ask(lambda registry: registry.audit_entries())
    report, url = restored_to(kept, kept.make())
    assert kept.ask(lambda registry: registry.audit_entries(), url)[: len(before)] == before
    assert [one.cn for one in kept.ask(lambda registry: registry.certificates("d1"), url)] == ["d1"]
    assert (report.folder / "files" / "plan.pdf").read_bytes() == b"%PDF a floor plan"
    assert rows(report.folder / "journal.db", "SELECT id, state FROM incident") == [(name, "open")]
    same = ("ca/fire/1/issuing.key", "ca/fire/1/root.key", "ca/passphrase", "audit/head.key", "certs/svc.fire.1.in.key")
    for file in same:
        assert (report.folder / file).read_bytes() == (kept.data / file).read_bytes()
        assert (report.folder / file).stat().st_mode & 0o777 == 0o600
    settings = load(report.folder / "iotcore.toml", {})
    assert settings.folder == report.folder
    assert settings.receivers == kept.settings.receivers
    assert home.prepare(settings, kept.clock).root_pem(Anchor.FIRE) == kept.authority().root_pem(Anchor.FIRE)
    assert not list(kept.root.glob(".*restoring*"))


def test_a_damaged_archive_or_a_wrong_key_changes_nothing(kept: Kept, tmp_path: Path) -> None:
    file = kept.make()
    before = state_of(kept.data), kept.ask(lambda registry: registry.audit_head())
    body = file.read_bytes()
    damaged = tmp_path / "damaged.age"
    damaged.write_bytes(body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1 :])
    with pytest.raises(StartError):
        kept.restore(damaged, kept.data, over=True)
    os.environ["IOTCORE_CA_PASSPHRASE"] = "another passphrase"
    try:
        with pytest.raises(StartError, match="does not open with this passphrase"):
            kept.restore(file, kept.data, over=True)
    finally:
        del os.environ["IOTCORE_CA_PASSPHRASE"]
    left = state_of(kept.data)
    assert {name: body for name, body in left.items() if ".db" not in name} == {
        name: body for name, body in before[0].items() if ".db" not in name
    }
    assert kept.ask(lambda registry: registry.audit_head()) == before[1]
    assert not list(kept.root.glob(".*restoring*"))


def test_a_platform_that_runs_is_not_restored_over(plain: Kept) -> None:
    file = plain.make()
    with home.claimed(plain.data), pytest.raises(StartError, match="Another iotcore runs"):
        plain.restore(file, plain.data, over=True)


def test_a_postgresql_backup_wants_postgresql_settings(kept: Kept) -> None:
    if kept.url:
        file = kept.make()
        other = kept.root / "other.toml"
        other.write_text(f'data = "{kept.root / NEW}"\n', encoding="utf-8")
        with pytest.raises(StartError, match="is of a postgres registry, and the settings name sqlite"):
            kept.restore(file, kept.root / NEW, config=other)
        assert not (kept.root / NEW).exists()
        with pytest.raises(StartError, match="holds a registry"):
            kept.restore(file, kept.root / NEW)
    else:
        other = kept.root / "other.toml"
        other.write_text(f'data = "{kept.root / NEW}"\n[web]\nport = 8099\n', encoding="utf-8")
        report = kept.restore(kept.make(), kept.root / NEW, config=other)
        assert load(report.folder / "iotcore.toml", {}).web.port == 8099


STEPS = ("staged", "moved", "schema")
KILLED = """
import os, signal, sys
from pathlib import Path
from iotcore.cli import main
from iotcore.commands import restore, restore_ahead
from iotcore.registry import copying

step = sys.argv.pop(1)
def dies(module, name, *, after):
    was = getattr(module, name)
    def killed(*arguments, **named):
        if after:
            done = was(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(module, name, killed)
if step == "staged":
    dies(restore_ahead, "move", after=False)
elif step == "moved":
    dies(restore, "_put_in_place", after=True)
else:
    was = copying.put_in_place
    async def killed(*arguments):
        await was(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    copying.put_in_place = killed
main(sys.argv[1:])
"""


@pytest.mark.parametrize("step", STEPS)
def test_a_restore_that_is_killed_leaves_nothing_that_starts_and_is_made_again(kept: Kept, step: str) -> None:
    if step == "schema" and not kept.url:
        step = "moved"  # SQLite has no schema to swap: the same moment
    kept.burn(1)
    file = kept.make()
    new = kept.root / NEW
    words = ["restore", str(file), "--to", str(new), "--identity", str(kept.identity), *(["--over"] if kept.url else [])]
    died = subprocess.run([sys.executable, "-c", KILLED, step, *words], capture_output=True, text=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    if step == "staged":
        assert not new.exists()
    else:
        run = [sys.executable, "-m", "iotcore", "run", "keeper", "--config", str(new / "iotcore.toml")]
        refused = subprocess.run(run, capture_output=True, text=True, check=False, timeout=30)
        assert refused.returncode == 1
        assert "was not finished" in refused.stderr
        words = [word for word in words if word != "--over" or step == "moved"]  # what it had put in place itself it may replace
    again = commands.run(*words)
    assert again.returncode == 0, again.stderr
    assert not list(kept.root.glob(".*restoring*"))
    settings = load(new / "iotcore.toml", {})
    home.check_folder(settings.folder)
    assert kept.audit(new, new / HEADS, kept.url).whole
    assert rows(new / "journal.db", "SELECT count(*) FROM incident") == [(1,)]


def test_a_postgresql_registry_goes_to_the_database_that_the_settings_name(postgres_server: Postgres, tmp_path: Path) -> None:
    """The old server is gone; the new one is empty."""
    kept = Kept(tmp_path / "platform", ManualClock(), postgres_server.url(postgres_server.fresh()))
    kept.root.mkdir()
    kept.begin()
    certified(kept, "d1")
    file = kept.make()
    lost = kept.ask(lambda registry: registry.last_change())
    fresh = postgres_server.url(postgres_server.fresh())
    settings = kept.root / "new.toml"
    settings.write_text(f'data = "elsewhere"\n[registry]\nurl = "{fresh}"\n', encoding="utf-8")
    report = kept.restore(file, kept.root / NEW, config=settings)
    assert load(report.folder / "iotcore.toml", {}).registry_url == fresh
    assert [one.cn for one in kept.ask(lambda registry: registry.certificates(), fresh)] == ["d1"]
    kept.ask(lambda registry: registry.set_state("d1", "active", "t"), fresh)
    assert kept.ask(lambda registry: registry.last_change(), fresh) > lost + 900_000_000
    assert kept.audit(report.folder, report.folder / HEADS, fresh).whole
