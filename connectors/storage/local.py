"""A local folder as a store: the promises of a conditional put with a lock file and an atomic rename.

A folder may lie on a share (SMB, NFS, sshfs, WSL). Without locks it is refused before anything is written, since runs
side by side would lose rows. Where folders cannot be synced or permissions not be set, a put says so once and goes on.
"""

import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ahi_catalog.connectors.errors import ConflictError, Remedy, StoppedError, StoreError
from ahi_catalog.connectors.storage.base import Entry, Stored, check_key, content_etag, file_etag, is_folder_marker
from ahi_catalog.connectors.storage.private_files import UNSUPPORTED, PrivateFiles

_log = logging.getLogger(__name__)

_SCRATCH: Final = "_state/.scratch"
"""Unfinished writes lie here, on the same file system as their targets, where no reader looks."""

_LONGEST_PAUSE: Final = 0.05
"""Seconds between two looks at the lock, which begin at a millisecond."""
_LOCK_PATIENCE: Final = 10
"""Seconds; a put takes less, so whoever waits longer is told, and may be stopped."""
_ADVICE: Final = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "the quota of the disk is used up: have it raised, or free some space",
    errno.EROFS: "mount it for writing, or choose another folder",
    errno.ESTALE: "the share has changed under it; mount it again if it stays so",
    errno.EXDEV: "tables and `_state` have to lie on one file system",
    errno.ENAMETOOLONG: "choose a folder with a shorter path",
    errno.EIO: "the disk or the share fails: mend it",
}
_RESUMED: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.EIO})
_OTHER_ADVICE: Final = "check the path, and that it is a folder of yours"


class LocalStore:
    """Files under a folder, made on the first put; what it makes is its user's alone (0700, 0600).

    A put holds the folder's lock, so that writers in any number of processes take turns (the kernel frees the
    lock of a killed one), writes a file beside the others, and renames it into place; file and folder are synced
    to the disk, so that a power cut leaves the old bytes or the new ones.

    Args:
        root: The folder.
        stop: Set when the run is asked to stop; a put that has waited long for the lock then raises StoppedError.
    """

    writers = 2

    def __init__(self, root: Path, stop: threading.Event | None = None) -> None:
        self._root = root.absolute()
        self._files = PrivateFiles(self.url, str(Remedy.REPAIR))
        self._stop = stop or threading.Event()
        self._has_waited_long = False

    def __reduce__(self) -> tuple[Callable[..., "LocalStore"], tuple[Path]]:
        # Elsewhere, as on a Dask worker, nobody sets this run's event.
        return LocalStore, (self._root,)

    @property
    def url(self) -> str:
        return str(self._root)

    def get(self, key: str) -> Stored | None:
        try:
            body = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failure("read", key, error) from None
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
                self._files.write(path, body, unfinished=scratch / f"{path.name}.part")
        except OSError as error:
            raise _failure("write", key, error) from None
        return etag

    def entries(self, prefix: str) -> Iterator[Entry]:
        try:
            files = [path for path in _files(self._root / prefix) if path.is_file()]
            listed = [_entry(path.relative_to(self._root).as_posix(), path.stat()) for path in files]
        except OSError as error:
            raise _failure("list", prefix, error) from None
        return (entry for entry in listed if not is_folder_marker(entry))

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    @contextmanager
    def _locked(self) -> Iterator[Path]:
        """Hold the folder's lock; where to write files that are not finished."""
        scratch = self._root / _SCRATCH
        self._files.make_folder(scratch)
        with self._files.open(scratch / "lock") as lock:
            self._lock(lock.fileno())
            for left_over in scratch.glob("*.part"):
                # Whoever wrote it held this lock and is gone.
                left_over.unlink()
            yield scratch

    def _lock(self, descriptor: int) -> None:
        began, pause = time.monotonic(), 0.001
        while not self._is_locked(descriptor):
            if time.monotonic() - began >= _LOCK_PATIENCE and not self._has_waited_long:
                self._has_waited_long = True
                _log.warning("waiting for another writer, which holds %s", self._root / _SCRATCH / "lock")
            if self._has_waited_long and self._stop.is_set():
                raise StoppedError("stopped while waiting for another writer of the catalog's folder")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self._has_waited_long = False

    def _is_locked(self, descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in UNSUPPORTED | {errno.ENOLCK}:
                raise
            raise StoreError(
                f"{self.url}: the file system has no locks, without which runs side by side lose rows: "
                "mount it with locks, or choose another folder or S3"
            ) from None
        return True


def _entry(key: str, status: os.stat_result) -> Entry:
    # A put renames a new file into place, so that its inode and its time tell it from the one before.
    return Entry(key, status.st_size, f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}")


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


def _failure(verb: str, key: str, error: OSError) -> StoreError:
    reason = error.strerror or type(error).__name__
    advice = _ADVICE.get(error.errno or 0, _OTHER_ADVICE)
    remedy = Remedy.RESUME if error.errno in _RESUMED else None
    return StoreError(f"cannot {verb} {key} in the catalog's folder: {reason}; {advice}", remedy=remedy)
