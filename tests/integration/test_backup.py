"""Backups of a real folder, on SQLite and PostgreSQL: made while it is written to, readable without us, whole or not there."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from iotcore.backup import archive, last
from iotcore.clock import ManualClock
from iotcore.commands import backup, doctor
from iotcore.errors import StartError, StoreError
from iotcore.journal.journal import Journal
from iotcore.settings import check, load
from tests.support import commands
from tests.support.backed_up import Kept, rows
from tests.support.services import require
from tests.support.small_disk import on_small_disk

pytestmark = pytest.mark.timeout(120)
LARGE_MB = 200
GROWTH_LIMIT_KIB = 60_000  # chunks and the interpreter; the journal is 200 MB
PASSPHRASE = "correct horse battery"
MEASURED = """
import resource, sys
from iotcore.cli import main
try:
    main(sys.argv[1:])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


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


def enlarge(kept: Kept, megabytes: int) -> None:
    """A journal of this size."""
    with closing(sqlite3.connect(kept.data / "journal.db")) as connection:
        connection.execute("CREATE TABLE ballast (body BLOB)")
        connection.executemany("INSERT INTO ballast VALUES (randomblob(1000000))", [()] * megabytes)
        connection.commit()


def common(kept: Kept) -> list[str]:
    return ["--recipient", kept.recipient, "--config", str(kept.config)]


def iotcore(kept: Kept, *arguments: str) -> subprocess.CompletedProcess[str]:
    return commands.run(*arguments, cwd=kept.root)


def test_a_backup_holds_everything_but_what_is_made_anew(kept: Kept) -> None:
    kept.burn(1)
    (kept.data / "files").mkdir()
    (kept.data / "files" / "plan.pdf").write_bytes(b"%PDF a floor plan")
    (kept.data / "outbox-fire.db").write_bytes(b"")
    manifest = kept.verify(kept.make())
    names = {part.name for part in manifest.parts}
    assert {
        "data/journal.db",
        "data/files/plan.pdf",
        "data/audit/heads/heads.jsonl",
        "data/ca/fire/1/crl.pem",
        "sealed.age",
    } <= names
    assert not [name for name in names if re.search(r"broker/|outbox|run/|\.key$|passphrase|-wal$|lock$", name)]
    assert ("registry/device.csv" in names) == bool(kept.url)
    assert ("data/registry.db" in names) == (not kept.url)
    assert manifest.registry == ("postgres" if kept.url else "sqlite")
    assert manifest.marks.audit_seq == 11
    assert manifest.marks.channels == {"arc": 1, "cad": 1}
    assert manifest.marks.crl_numbers == {f"{anchor}/1/crl.pem": 1 for anchor in ("field", "fire", "service")}
    assert not list((kept.data / ".backup").iterdir())
    (entry,) = [one for one in kept.ask(lambda registry: registry.audit_entries()) if one.deed.action == "backup.make"]
    assert entry.deed.subject == "b.age"


def test_it_is_made_while_both_databases_are_written_to_and_each_is_of_one_moment(kept: Kept, tmp_path: Path) -> None:
    ended = threading.Event()
    counts = {"journal": 0, "registry": 0}
    failed: list[BaseException] = []

    def write() -> None:
        try:
            while not ended.is_set():
                counts["journal"] += 1
                kept.burn(counts["journal"], f"p{counts['journal']}")
                kept.ask(lambda registry: registry.note("t", "enrolment_refused", f"d{counts['registry']}"))
                counts["registry"] += 1
        except BaseException as error:  # noqa: BLE001 - the test says it
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while counts["registry"] < 2 and not failed:
            time.sleep(0.01)
        file = kept.make()
    finally:
        ended.set()
        writer.join()
    assert not failed
    report = kept.restore(file, tmp_path / "new") if not kept.url else kept.restore(file, tmp_path / "new", over=True)
    orphans = "SELECT count(*) FROM outbox WHERE incident NOT IN (SELECT id FROM incident)"
    assert rows(tmp_path / "new" / "journal.db", orphans) == [(0,)]
    assert rows(tmp_path / "new" / "journal.db", "PRAGMA integrity_check") == [("ok",)]
    assert kept.audit(report.folder, report.folder / "audit" / "heads" / "heads.jsonl").whole


def test_it_is_read_without_us(kept: Kept, tmp_path: Path) -> None:
    kept.burn(1)
    file = kept.make()
    age = str(require("age"))
    listed = subprocess.run(
        f"{age} -d -i {kept.identity} {file} | tar x -C {tmp_path}", shell=True, check=True, capture_output=True
    )
    assert listed.stderr == b""
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    assert {part["name"]: part["size"] for part in manifest["parts"]} == {
        part["name"]: (tmp_path / part["name"]).stat().st_size for part in manifest["parts"]
    }
    assert rows(tmp_path / "data" / "journal.db", "SELECT count(*) FROM incident") == [(1,)]
    sealed = f"{age} -d -i {kept.identity} {tmp_path / 'sealed.age'} | tar t"
    names = subprocess.run(sealed, shell=True, check=True, capture_output=True, text=True).stdout.split()
    assert {"settings.toml", "data/ca/passphrase", "data/ca/fire/1/issuing.key", "data/audit/head.key"} <= set(names)


def test_with_a_passphrase_it_is_read_as_the_page_says(plain: Kept, tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text(f"{PASSPHRASE}\n", encoding="utf-8")
    secret.chmod(0o600)
    file = tmp_path / "FILE.age"
    key = backup.Key(passphrase=secret)
    backup.make(plain.settings, plain.config, file, key, plain.clock, telemetry=False, staging=None)
    assert backup.verify(file, backup.Opener(passphrase=secret)).marks.audit_seq == 11
    with pytest.raises(StartError, match="made with a passphrase"):
        plain.verify(file)
    page = (Path(__file__).parents[2] / "docs" / "backup.md").read_text(encoding="utf-8")
    (command,) = [line for line in page.splitlines() if line.startswith("sed '/END AGE/q'")]
    assert "data/ca/fire/1/crl.pem" in typed(command, PASSPHRASE, tmp_path)


def typed(command: str, secret: str, folder: Path) -> str:
    """What a command says that asks for a passphrase at its terminal."""
    require("age")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvp("sh", ["sh", "-c", command])
    said = b""
    asked = False
    while True:
        try:
            chunk = os.read(terminal, 65_536)
        except OSError:
            break
        if not chunk:
            break
        said += chunk
        if not asked and b"assphrase" in said:
            asked = True
            os.write(terminal, f"{secret}\n".encode())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, said
    return said.decode(errors="replace")


def test_a_backup_that_is_killed_leaves_nothing_under_its_name_and_the_next_removes_what_it_left(plain: Kept) -> None:
    plain.burn(1)
    enlarge(plain, LARGE_MB // 4)
    for size in (0, 1_000_000, 30_000_000):
        target = plain.root / f"{size}.age"
        partial = plain.root / f".{size}.age{archive.PARTIAL}"
        command = [sys.executable, "-m", "iotcore", "backup", str(target), *common(plain)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                until_written(partial, size, process)
            finally:
                process.send_signal(signal.SIGKILL)
        assert not target.exists()
        assert partial.exists()
    plain.verify(plain.make("other.age"))
    assert not partial.exists()
    assert not list((plain.data / ".backup").iterdir())


def until_written(partial: Path, size: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30.0
    while not partial.exists() or partial.stat().st_size < size:
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() < deadline


def test_memory_does_not_grow_with_the_journal(plain: Kept) -> None:
    def peak_kib(name: str) -> int:
        words = ["backup", name, *common(plain)]
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *words], capture_output=True, text=True, check=True, cwd=plain.root
        )
        return int(done.stdout.split()[-1])

    plain.burn(1)
    small = peak_kib("small.age")
    enlarge(plain, LARGE_MB)
    large = peak_kib("large.age")
    assert (plain.root / "large.age").stat().st_size > LARGE_MB * 1_000_000
    assert large - small < GROWTH_LIMIT_KIB, f"{small} KiB, then {large}"


async def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    said = await on_small_disk(tmp_path / "disk", 4, "tests.support.full_disk_backup", tmp_path / "disk")
    assert "has no room on its disk" in said["archive"]
    assert "name another folder with --staging" in said["staging"]
    assert said["left"] == []


def test_a_database_that_is_damaged_makes_no_backup(kept: Kept) -> None:
    kept.burn(1)
    with closing(Journal(kept.data / "journal.db", kept.clock, ())) as journal:
        journal.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file = kept.data / "journal.db"
    body = bytearray(file.read_bytes())
    body[4096 * 3 : 4096 * 6] = os.urandom(4096 * 3)
    file.write_bytes(body)
    with pytest.raises(StoreError, match=r"journal\.db"):
        kept.make()
    assert not (kept.root / "b.age").exists()


def test_the_registry_that_does_not_answer_makes_no_backup(kept: Kept) -> None:
    if kept.url:
        kept.config.write_text(kept.config.read_text(encoding="utf-8").replace("127.0.0.1", "127.0.0.2"), encoding="utf-8")
    else:
        (kept.data / "registry.db").unlink()
    with pytest.raises(StartError, match="registry"):
        kept.make()
    assert not (kept.root / "b.age").exists()


def test_of_those_in_a_folder_the_newest_are_kept_and_nothing_else_is_touched(plain: Kept, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    (folder / "iotcore-notes.txt").write_text("mine", encoding="utf-8")
    for _ in range(3):
        said = iotcore(
            plain, "backup", "--to", str(folder), "--keep", "2", "--recipient", plain.recipient, "--config", str(plain.config)
        )
        assert said.returncode == 0, said.stderr
        time.sleep(1.0)  # they are named by the second
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 3
    assert all(backup.ROTATED.fullmatch(name) for name in names[:2])
    assert names[2] == "iotcore-notes.txt"


def test_a_backup_that_is_overdue_is_told(plain: Kept) -> None:
    assert not last.due(plain.settings, plain.clock).overdue
    plain.make()
    plain.clock.advance(6.9 * 86_400.0)
    assert not last.due(plain.settings, plain.clock).overdue
    plain.clock.advance(0.2 * 86_400.0)
    found = last.due(plain.settings, plain.clock)
    assert (found.overdue, found.said) == (True, "the last, b.age, is 7.1 days old")
    told = asyncio.run(doctor._backup(plain.settings, plain.clock))
    assert (told.well, told.remedy) == (False, last.REMEDY)
    plain.config.write_text(plain.config.read_text(encoding="utf-8") + "[backup]\nmax_age_days = 0\n", encoding="utf-8")
    assert not last.due(load(plain.config, {}), plain.clock).overdue


async def test_the_keeper_says_so_at_its_start_and_every_hour(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    settings = check({"data": str(tmp_path)}, "a test")
    last.note(tmp_path, last.Last(clock.wall_ms() - 8 * 86_400_000.0, "old.age", 1))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(last.watch(settings, clock), 0.5)
    (said,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert said.startswith("A BACKUP IS OVERDUE: the last, old.age, is 8.0 days old")
