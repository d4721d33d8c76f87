"""The archive: a tar stream, encrypted as it is written (age: ChaCha20-Poly1305 in chunks of 64 KiB), never whole in memory.

    parts ─► tar ─► pipe ─► age ─► .FILE.iotcore-partial ──fsync, rename──► FILE

A truncated or changed archive fails at its chunk; a member that was left out fails at the manifest, which stands last.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, TypeVar

import msgspec
import pyrage

from iotcore.backup import keys
from iotcore.backup.manifest import FORMAT, MANIFEST, SEALED, Manifest, Part
from iotcore.errors import StartError, StoreError, StoreFull

NO_SPACE = 28  # errno.ENOSPC
MODE = 0o600
PARTIAL = ".iotcore-partial"
COPY_BYTES = 1 << 20
MAX_SMALL_BYTES = 64 << 20  # of the manifest, and of all files that hold secrets
DAMAGED = "Take another copy of it, or an older backup."


class Writer:
    """Adds members; `finish` adds the manifest."""

    def __init__(self, tar: tarfile.TarFile, recipient: keys.Recipient) -> None:
        self._tar = tar
        self._recipient = recipient
        self.parts: list[Part] = []

    def add(self, name: str, path: Path) -> None:
        """Add a file as it is now; what is appended meanwhile is not in it.

        Raises:
            StoreError: it is gone, or was shortened meanwhile.
        """
        try:
            file = path.open("rb")
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}; make the backup again") from error
        with file:
            self._add(name, os.fstat(file.fileno()).st_size, file)

    def seal(self, files: dict[str, Path]) -> None:
        """Add the files that hold secrets, as one member that is encrypted by itself."""
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as inner:
            for name, path in sorted(files.items()):
                inner.add(path, name, recursive=False)
        sealed: bytes = pyrage.encrypt(plain.getvalue(), [self._recipient])
        self._add(SEALED, len(sealed), io.BytesIO(sealed))

    def finish(self, manifest: Manifest) -> None:
        """Add the manifest: without it an archive is none."""
        body = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        self._add(MANIFEST, len(body), io.BytesIO(body))

    def _add(self, name: str, size: int, file: IO[bytes]) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, MODE
        read = _Hashed(file)
        self._tar.addfile(member, read)
        if name != MANIFEST:
            self.parts.append(Part(name, size, read.digest.hexdigest()))


@contextmanager
def writing(path: Path, recipient: keys.Recipient, lock: bytes = b"") -> Iterator[Writer]:
    """Write an archive; it is under its name only when the block has ended well, and on disk then.

    Raises:
        StartError: the name is taken, or the folder cannot be written.
        StoreFull: the disk has no room for it.
    """
    if path.exists():
        raise StartError(f"{path} is there already", "Choose another name: a backup never replaces one.")
    partial = path.with_name(f".{path.name}{PARTIAL}")
    try:
        _remove_stale(path.parent)
        with _exclusive(partial) as out:
            out.write(lock)
            with _encrypting(out, recipient) as plain, tarfile.open(fileobj=plain, mode="w|") as tar:
                yield Writer(tar, recipient)
            out.flush()
            os.fsync(out.fileno())
            partial.rename(path)
        _sync(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if error.errno == NO_SPACE:
            raise StoreFull(f"The backup {path} has no room on its disk; free some and make it again") from error
        raise StoreError(f"The backup {path} cannot be written: {error.strerror or error}") from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def reading(path: Path, identity: Callable[[BinaryIO], keys.Identity], take: Callable[[str, IO[bytes]], None]) -> Manifest:
    """Read an archive through: `take` gets each member but the manifest; every part is checked.

    Raises:
        StartError: it cannot be read, does not open with this key, or is not whole.
    """
    try:
        with path.open("rb") as file:
            key = identity(file)
            found: dict[str, Part] = {}
            manifest: Manifest | None = None
            with _decrypting(file, key) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
                for member in tar:
                    content = tar.extractfile(member)
                    if content is None or manifest is not None:
                        raise StartError(f"{path} holds {member.name}, which no backup has", DAMAGED)
                    if member.name == MANIFEST:
                        manifest = _manifest(content.read(MAX_SMALL_BYTES), path)
                        continue
                    read = _Hashed(content)
                    take(member.name, read)  # type: ignore[arg-type]  # it only reads
                    while read.read(COPY_BYTES):
                        pass
                    found[member.name] = Part(member.name, member.size, read.digest.hexdigest())
    except (tarfile.TarError, EOFError) as error:
        raise StartError(f"{path} is damaged: {error}", DAMAGED) from error
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error.strerror or error}", DAMAGED) from error
    if manifest is None:
        raise StartError(f"{path} has no manifest: it is not whole", DAMAGED)
    if wrong := [part.name for part in manifest.parts if found.get(part.name) != part] + sorted(
        found.keys() - {part.name for part in manifest.parts}
    ):
        raise StartError(f"{path} is damaged: {', '.join(wrong)}", DAMAGED)
    return manifest


def unseal(sealed: bytes, key: keys.Identity, take: Callable[[str, IO[bytes]], None]) -> None:
    """The files that hold secrets.

    Raises:
        StartError: they do not open with this key.
    """
    try:
        plain: bytes = pyrage.decrypt(sealed, [key])
    except pyrage.DecryptError as error:
        raise StartError(f"The sealed part does not open: {error}", DAMAGED) from error
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                take(member.name, content)


class _Hashed:
    """A file to read that sums up what was read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self.digest.update(chunk)
        return chunk


T = TypeVar("T")


class _Ends:
    """One end of our stream as the library sees it. It turns what it meets into errors of its own: the first one is kept."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def read(self, size: int) -> bytes:
        return self._kept(lambda: self._file.read(size))

    def write(self, chunk: bytes) -> int:
        return self._kept(lambda: self._file.write(chunk))

    def flush(self) -> None:
        self._kept(self._file.flush)

    def _kept(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except OSError as error:
            self.error = self.error or error
            raise


@contextmanager
def _encrypting(out: BinaryIO, recipient: keys.Recipient) -> Iterator[BinaryIO]:
    ends = _Ends(out)

    def work(source: BinaryIO) -> None:
        pyrage.encrypt_io(source, ends, [recipient])

    with _piped(work, ends, source=True) as plain:
        yield plain


@contextmanager
def _decrypting(file: BinaryIO, key: keys.Identity) -> Iterator[BinaryIO]:
    def work(target: BinaryIO) -> None:
        pyrage.decrypt_io(file, target, [key])

    with _piped(work, None, source=False) as plain:
        yield plain


@contextmanager
def _piped(work: Callable[[BinaryIO], None], ends: _Ends | None, *, source: bool) -> Iterator[BinaryIO]:
    """Run `work` on one end of a pipe in a thread of its own; the block has the other end. Its failure is the block's."""
    read, write = os.pipe()
    theirs, ours = (os.fdopen(read, "rb"), os.fdopen(write, "wb")) if source else (os.fdopen(write, "wb"), os.fdopen(read, "rb"))
    failed: list[Exception] = []

    def run() -> None:
        try:
            work(theirs)
        except (pyrage.EncryptError, pyrage.DecryptError, OSError) as error:
            failed.append(error)
        finally:
            with suppress(OSError):
                theirs.close()  # the other end meets a broken pipe, or its end

    thread = threading.Thread(target=run, name="backup")
    thread.start()
    try:
        yield ours
    finally:
        with suppress(OSError):
            ours.close()
        thread.join()
        if ends is not None and ends.error is not None:
            raise ends.error
        if failed and not _went_away(failed[0]):
            raise StartError(f"The archive does not open: {failed[0]}", "Give its key; or it is damaged: take another copy.")


def _went_away(error: Exception) -> bool:
    """Whether it only says that the block has stopped reading."""
    return "roken pipe" in str(error)


def _manifest(body: bytes, path: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except msgspec.DecodeError as error:
        raise StartError(
            f"{path} has a manifest that this release does not know: {error}", "Use the release it was made with."
        ) from error
    if manifest.format != FORMAT:
        raise StartError(f"{path} has format {manifest.format}", f"This release knows {FORMAT}: use the one it was made with.")
    return manifest


@contextmanager
def _exclusive(partial: Path) -> Iterator[BinaryIO]:
    """The file under its partial name, locked while it is being written."""
    handle = os.open(partial, os.O_RDWR | os.O_CREAT, MODE)
    with os.fdopen(handle, "wb") as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartError(f"{partial} is being written", "Another backup runs: wait for it.") from error
        out.truncate(0)
        yield out


def _remove_stale(folder: Path) -> None:
    """What a killed backup has left: nobody holds it any more."""
    for partial in folder.glob(f".*{PARTIAL}"):
        with partial.open("rb") as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            partial.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
