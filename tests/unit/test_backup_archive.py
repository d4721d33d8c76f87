"""The archive: whole or refused, whatever was cut off, changed or left out; for the right key alone; never over a file."""

from __future__ import annotations

import hashlib
import io
import stat
from pathlib import Path
from typing import IO, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iotcore.backup import archive, keys, unpack
from iotcore.backup.manifest import FORMAT, Manifest, Marks
from iotcore.errors import StartError, StoreError

MARKS = Marks(7, "0" * 64, 3, 2)
BODIES = {"data/a": b"one", "data/empty": b"", "data/large": bytes(range(256)) * 1_000}
OPENS_TWICE = [HealthCheck.function_scoped_fixture]


def manifest(writer: archive.Writer) -> Manifest:
    return Manifest(FORMAT, "0.1", 1, "sqlite", MARKS, writer.parts)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, str]:
    return tmp_path / "key", keys.make_pair(tmp_path / "key")


@pytest.fixture
def made(tmp_path: Path, pair: tuple[Path, str]) -> Path:
    return make(tmp_path, pair[1])


def make(folder: Path, public: str, lock: bytes = b"", *, name: str = "b.age") -> Path:
    for member, body in BODIES.items():
        (folder / Path(member).name).write_bytes(body)
    (folder / "secret").write_bytes(b"the passphrase of this test")
    with archive.writing(folder / name, keys.recipient(public), lock) as writer:
        for member in BODIES:
            writer.add(member, folder / Path(member).name)
        writer.seal({"data/ca/passphrase": folder / "secret"})
        writer.finish(manifest(writer))
    return folder / name


def read(file: Path, key: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}

    def take(name: str, content: IO[bytes]) -> None:
        found[name] = content.read()

    def identity(_source: BinaryIO) -> keys.Identity:
        return keys.identity(key)

    archive.reading(file, identity, take)
    return found


def test_what_goes_in_comes_out_and_the_secret_part_opens_only_by_itself(made: Path, pair: tuple[Path, str]) -> None:
    found = read(made, pair[0])
    sealed = found.pop("sealed.age")
    assert found == BODIES
    assert b"passphrase of this test" not in b"".join([*found.values(), sealed])
    opened: dict[str, bytes] = {}
    archive.unseal(sealed, keys.identity(pair[0]), lambda name, content: opened.update({name: content.read()}))
    assert opened == {"data/ca/passphrase": b"the passphrase of this test"}
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


@settings(max_examples=40, deadline=None, suppress_health_check=OPENS_TWICE)
@given(st.data())
def test_a_byte_that_was_changed_anywhere_is_found(made: Path, pair: tuple[Path, str], data: st.DataObject) -> None:
    body = made.read_bytes()
    at = data.draw(st.integers(0, len(body) - 1))
    changed = made.with_name("changed.age")
    changed.write_bytes(body[:at] + bytes([body[at] ^ 0x40]) + body[at + 1 :])
    with pytest.raises(StartError):
        read(changed, pair[0])


@settings(max_examples=40, deadline=None, suppress_health_check=OPENS_TWICE)
@given(st.data())
def test_a_tail_that_was_cut_off_is_found(made: Path, pair: tuple[Path, str], data: st.DataObject) -> None:
    body = made.read_bytes()
    cut = made.with_name("cut.age")
    cut.write_bytes(body[: data.draw(st.integers(0, len(body) - 1))])
    with pytest.raises(StartError):
        read(cut, pair[0])


def test_a_part_that_was_left_out_is_found(tmp_path: Path, pair: tuple[Path, str]) -> None:
    (tmp_path / "a").write_bytes(b"one")
    with archive.writing(tmp_path / "b.age", keys.recipient(pair[1])) as writer:
        writer.add("data/a", tmp_path / "a")
        told = manifest(writer)
        missing = told.parts[0].__class__("data/b", 1, hashlib.sha256(b"x").hexdigest())
        writer.finish(Manifest(FORMAT, "0.1", 1, "sqlite", MARKS, [*told.parts, missing]))
    with pytest.raises(StartError, match="is damaged: data/b"):
        read(tmp_path / "b.age", pair[0])


def test_without_a_manifest_it_is_no_backup(tmp_path: Path, pair: tuple[Path, str]) -> None:
    (tmp_path / "a").write_bytes(b"one")
    with archive.writing(tmp_path / "b.age", keys.recipient(pair[1])) as writer:
        writer.add("data/a", tmp_path / "a")
    with pytest.raises(StartError, match="has no manifest"):
        read(tmp_path / "b.age", pair[0])


def test_another_key_does_not_open_it(made: Path, tmp_path: Path) -> None:
    keys.make_pair(tmp_path / "other")
    with pytest.raises(StartError, match="does not open"):
        read(made, tmp_path / "other")


def test_a_passphrase_opens_it_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    public, lock = keys.lock("correct horse battery")
    file = make(tmp_path, str(public), lock)
    with file.open("rb") as source:
        assert keys.is_locked(source)
        with pytest.raises(StartError, match="does not open with this passphrase"):
            keys.unlock(source, "correct horse batterz")
    archive.reading(file, lambda source: keys.unlock(source, "correct horse battery"), lambda _name, _content: None)


def test_a_backup_never_replaces_a_file(made: Path, pair: tuple[Path, str]) -> None:
    before = made.read_bytes()
    with pytest.raises(StartError, match="is there already"):
        make(made.parent, pair[1])
    assert made.read_bytes() == before


def test_what_fails_leaves_nothing_and_what_was_killed_is_removed_by_the_next(tmp_path: Path, pair: tuple[Path, str]) -> None:
    stale = tmp_path / f".earlier.age{archive.PARTIAL}"
    stale.write_bytes(b"half of one")
    with (
        pytest.raises(StoreError, match="not-there cannot be read"),
        archive.writing(tmp_path / "b.age", keys.recipient(pair[1])) as writer,
    ):
        writer.add("data/a", tmp_path / "not-there")
    assert not list(tmp_path.glob(f".*{archive.PARTIAL}"))
    assert not (tmp_path / "b.age").exists()


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "data/../../x", "other/x"])
def test_a_member_that_would_lie_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(StartError):
        unpack.place(name)


def test_the_paths_of_the_settings_are_made_to_fit() -> None:
    text = 'data = "/var/lib/a"\nrules = \'/etc/a/rules.yaml\'\n[store]\ntoken_file = "/etc/a/token"\nurl = "http://a"\n'
    files = {"data/": "/var/lib/a", "named/rules": "/etc/a/rules.yaml", "named/store.token_file": "/etc/a/token"}
    assert unpack.fitted(text, files, Path("/srv/b")) == (
        'data = "/srv/b"\nrules = "/srv/b/config/rules"\n[store]\ntoken_file = "/srv/b/config/store.token_file"\nurl = "http://a"\n'
    )


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, pair: tuple[Path, str]) -> None:
    pair[0].chmod(0o640)
    with pytest.raises(StartError, match="can be read by others"):
        keys.identity(pair[0])
    pair[0].chmod(0o600)
    assert stat.S_IMODE(pair[0].stat().st_mode) == 0o600
    (tmp_path / "short").write_text("secret", encoding="utf-8")
    (tmp_path / "short").chmod(0o600)
    with pytest.raises(StartError, match="fewer than 12 characters"):
        keys.passphrase(tmp_path / "short")


def test_no_key_is_no_backup() -> None:
    with pytest.raises(StartError, match="is no public key"):
        keys.recipient("age1nonsense")
    with pytest.raises(StartError, match="beginning is damaged"):
        keys.unlock(io.BytesIO(keys.BEGIN + b"\nnonsense"), "correct horse battery")
