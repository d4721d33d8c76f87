"""The folder of files is swept of what nobody has any more, never of what somebody just adds."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from iotcore.errors import StoreError
from iotcore.provision.file_folder import ORPHAN_AGE_S, FileFolder

NOW_S = 1_800_000_000.0


def aged(path: Path, age_s: float) -> None:
    os.utime(path, (NOW_S - age_s, NOW_S - age_s))


def test_only_old_files_of_ours_that_nobody_has_are_deleted(tmp_path: Path) -> None:
    folder = FileFolder(tmp_path / "files")
    assert folder.sweep(set(), NOW_S) == []  # there is no folder yet
    used, orphan, young = (folder.keep(content) for content in (b"used", b"orphan", b"young"))
    half = tmp_path / "files" / f".{hashlib.sha256(b'half').hexdigest()}.0a1b2c3d"
    half.write_bytes(b"ha")
    stranger = tmp_path / "files" / "README"
    stranger.write_text("not ours")
    for path in (tmp_path / "files").iterdir():
        aged(path, ORPHAN_AGE_S)
    aged(tmp_path / "files" / young, ORPHAN_AGE_S - 1.0)
    assert folder.sweep({used}, NOW_S) == sorted([half.name, orphan])
    assert {path.name for path in (tmp_path / "files").iterdir()} == {used, young, "README"}


def test_content_that_is_added_again_is_young_again(tmp_path: Path) -> None:
    folder = FileFolder(tmp_path)
    name = folder.keep(b"plan")
    aged(tmp_path / name, 10 * ORPHAN_AGE_S)
    assert folder.keep(b"plan") == name
    assert folder.sweep(set(), (tmp_path / name).stat().st_mtime + 1.0) == []
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_content_that_is_gone_or_changed_is_damaged_and_never_given(tmp_path: Path) -> None:
    folder = FileFolder(tmp_path)
    whole, changed, gone = (folder.keep(content) for content in (b"whole", b"changed", b"gone"))
    (tmp_path / changed).write_bytes(b"otherwise")
    (tmp_path / gone).unlink()
    assert folder.damaged([whole, changed, gone]) == sorted([changed, gone])
    assert folder.read(whole) == b"whole"
    for name in (changed, gone, "../registry.db", "x" * 64):
        with pytest.raises(StoreError):
            folder.read(name)
