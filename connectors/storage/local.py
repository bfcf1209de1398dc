"""A local folder as a store: the promises of a conditional put with a lock file and an atomic rename."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ahi_catalog.connectors.errors import ConflictError, StoreError
from ahi_catalog.connectors.storage.base import Entry, Stored, check_key, content_etag, file_etag

_SCRATCH: Final = "_state/.scratch"
"""Unfinished writes lie here, on the same file system as their targets, where no reader looks."""


_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600


class LocalStore:
    """Files under a folder, made on the first put; what it makes is its user's alone (0700, 0600).

    A put holds the folder's lock, so that writers in any number of processes take turns (the kernel frees the
    lock of a killed one), writes a file beside the others, and renames it into place; file and folder are synced
    to the disk, so that a power cut leaves the old bytes or the new ones.

    Args:
        root: The folder.
    """

    writers = 2

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @property
    def url(self) -> str:
        return str(self._root)

    def get(self, key: str) -> Stored | None:
        try:
            body = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(_describe("read", key, error)) from None
        return Stored(body, content_etag(body))

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        path = self._path(key)
        etag = content_etag(body)
        try:
            with self._locked() as scratch:
                found = _etag_of(path)
                if found == etag:
                    return etag
                if found != expected:
                    raise ConflictError(f"{key} was written by another run")
                self._replace(path, body, scratch)
        except OSError as error:
            raise StoreError(_describe("write", key, error)) from None
        return etag

    def entries(self, prefix: str) -> Iterator[Entry]:
        try:
            files = [path for path in _files(self._root / prefix) if path.is_file()]
            listed = [_entry(path.relative_to(self._root).as_posix(), path.stat()) for path in files]
        except OSError as error:
            raise StoreError(_describe("list", prefix, error)) from None
        return iter(listed)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    @contextmanager
    def _locked(self) -> Iterator[Path]:
        """Hold the folder's lock; where to write files that are not finished."""
        scratch = self._root / _SCRATCH
        self._make_folder(scratch)
        with os.fdopen(_open_private(scratch / "lock"), "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left_over in scratch.glob("*.part"):
                # Whoever wrote it held this lock and is gone.
                left_over.unlink()
            yield scratch

    def _replace(self, path: Path, body: bytes, scratch: Path) -> None:
        self._make_folder(path.parent)
        descriptor, name = tempfile.mkstemp(dir=scratch, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, _FILE_MODE)
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make_folder(folder.parent)
            with suppress(FileExistsError):
                folder.mkdir(_FOLDER_MODE)
                folder.chmod(_FOLDER_MODE)  # whatever the umask takes away
            sync_folder(folder.parent)


def _entry(key: str, status: os.stat_result) -> Entry:
    # A put renames a new file into place, so that its inode and its time tell it from the one before.
    return Entry(key, status.st_size, f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}")


def _open_private(path: Path) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, _FILE_MODE)
    os.fchmod(descriptor, _FILE_MODE)
    return descriptor


def _files(folder: Path) -> Iterator[Path]:
    """What lies below a folder, apart from what is hidden: that is being written just now, and may vanish.

    Raises:
        OSError: A folder cannot be read. (Path.rglob would leave it out and say nothing.)
    """
    for name, folders, files in os.walk(folder, onerror=_raise_unless_absent):
        folders[:] = [below for below in folders if not below.startswith(".")]
        yield from (Path(name, file) for file in files if not file.startswith("."))


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _etag_of(path: Path) -> str | None:
    """What is there now; it may be a large object, and the one to be written is held already."""
    try:
        with path.open("rb") as file:
            return file_etag(file)
    except FileNotFoundError:
        return None


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _describe(verb: str, key: str, error: OSError) -> str:
    reason = error.strerror or type(error).__name__
    return f"cannot {verb} {key} in the catalog's folder: {reason}; check the path, and that it is a folder of yours"
