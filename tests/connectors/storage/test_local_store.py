"""What only a local folder can meet: a full disk, killed writers, files in the way."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ahi_catalog.connectors.errors import StoppedError, StoreError
from ahi_catalog.connectors.storage import LocalStore, local, private_files

# The limit on a file's size is a disk that is full after so many bytes.
_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from ahi_catalog.connectors.storage import LocalStore
from ahi_catalog.connectors.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
store = LocalStore(Path(sys.argv[1]))
try:
    store.put("k", b"x" * 5000, expected=store.get("k").etag)
except StoreError as error:
    print(error)
"""

_KILLED_WRITER = """
import os, sys
from pathlib import Path
from ahi_catalog.connectors.storage import LocalStore
with LocalStore(Path(sys.argv[1]))._locked() as scratch:
    (scratch / "half.part").write_bytes(b"half")
    os.kill(os.getpid(), 9)
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)


def test_a_full_disk_leaves_the_old_object(tmp_path: Path) -> None:
    """The write fails in one line, the old bytes stand, and no half file stays."""
    store = LocalStore(tmp_path)
    store.put("k", b"old", expected=None)
    done = run(_FULL_DISK, tmp_path)
    assert "cannot write k" in done.stdout
    found = store.get("k")
    assert found is not None
    assert found.body == b"old"
    assert not list(tmp_path.rglob("*.part"))


def test_a_killed_writer_leaves_neither_lock_nor_object(tmp_path: Path) -> None:
    """The kernel frees the lock of a process that is gone; its half file is invisible, and swept away."""
    store = LocalStore(tmp_path)
    assert run(_KILLED_WRITER, tmp_path).returncode == -9
    assert list(tmp_path.rglob("*.part"))
    assert not list(store.entries(""))
    store.put("k", b"new", expected=None)
    assert not list(tmp_path.rglob("*.part"))


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    """A catalog below a file cannot be read or written, and the error says so."""
    (tmp_path / "file").write_bytes(b"")
    store = LocalStore(tmp_path / "file")
    with pytest.raises(StoreError, match="cannot read k"):
        store.get("k")
    with pytest.raises(StoreError, match="cannot write k"):
        store.put("k", b"", expected=None)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_what_is_made_is_its_users_alone(tmp_path: Path, umask: int) -> None:
    """Folders are 0700 and files 0600, the lock and unfinished files too, whatever the umask."""
    before = os.umask(umask)
    try:
        store = LocalStore(tmp_path / "new" / "catalog")
        etag = store.put("image_sets/a/b", b"1", expected=None)
        store.put("image_sets/a/b", b"2", expected=etag)
    finally:
        os.umask(before)
    made = list((tmp_path / "new").rglob("*"))
    assert len(made) == 7
    for path in (tmp_path / "new", *made):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def failing(call: Callable[..., object], code: int, *, of_folders: bool = False) -> Callable[..., object]:
    """A system call that fails so; of folders: for their descriptors alone."""

    def fail(file: int | Path, *arguments: object) -> object:
        if of_folders and not stat.S_ISDIR(os.stat(file).st_mode):  # noqa: PTH116  # a descriptor
            return call(file, *arguments)
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
@pytest.mark.parametrize("what", ["folders", "all"])
def test_a_share_that_syncs_nothing_is_told_once_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int, what: str
) -> None:
    """As SMB, WSL and sshfs answer fsync: each put is done, and one line says what a power cut may take."""
    monkeypatch.setattr(os, "fsync", failing(os.fsync, code, of_folders=what == "folders"))
    store = LocalStore(tmp_path / "catalog")
    etag = store.put("a/b", b"1", expected=None)
    store.put("a/b", b"2", expected=etag)
    found = store.get("a/b")
    assert found is not None
    assert found.body == b"2"
    [said] = [record.getMessage() for record in caplog.records]
    assert "a power cut may lose the last writes; after one, verify it with `repair`" in said


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, 0], ids=["EPERM", "ENOTSUP", "ignored"])
def test_a_share_without_permissions_is_told_once_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    """Where chmod fails, or does nothing, and others may read what was made, one line says who decides that."""
    monkeypatch.setattr(os, "chmod", failing(os.chmod, code) if code else lambda *_: None)
    monkeypatch.setattr(private_files, "_FOLDER_MODE", 0o755)  # as a mount makes them
    store = LocalStore(tmp_path / "catalog")
    etag = store.put("a/b", b"1", expected=None)
    store.put("a/b", b"2", expected=etag)
    [said] = [record.getMessage() for record in caplog.records]
    assert "keeps no permissions of its own" in said


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL])
def test_a_share_without_locks_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Runs side by side would lose rows there; no object is left."""
    monkeypatch.setattr(fcntl, "flock", failing(fcntl.flock, code))
    store = LocalStore(tmp_path)
    with pytest.raises(StoreError, match="has no locks"):
        store.put("a/b", b"1", expected=None)
    assert store.get("a/b") is None


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota of the disk"),
        (errno.EROFS, "mount it for writing"),
        (errno.ESTALE, "mount it again"),
        (errno.EXDEV, "one file system"),
        (errno.ENAMETOOLONG, "shorter path"),
        (errno.EIO, "the share fails"),
        (errno.EACCES, "a folder of yours"),
    ],
)
def test_what_a_disk_refuses_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, says: str
) -> None:
    """One line with what to do; the old object stands and no half file stays."""
    store = LocalStore(tmp_path)
    etag = store.put("k", b"old", expected=None)
    monkeypatch.setattr(Path, "replace", failing(Path.replace, code))
    with pytest.raises(StoreError, match="cannot write k") as failed:
        store.put("k", b"new", expected=etag)
    assert says in str(failed.value)
    found = store.get("k")
    assert found is not None
    assert found.body == b"old"
    assert not list(tmp_path.rglob("*.part"))


def test_a_held_lock_is_told_and_a_stop_ends_the_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a while a line says what is waited for; a stop then ends this put, and the next ones at once."""
    monkeypatch.setattr(local, "_LOCK_PATIENCE", 0)
    stop = threading.Event()
    store = LocalStore(tmp_path, stop)
    store.put("k", b"1", expected=None)

    def stop_when_told(_: object) -> bool:
        stop.set()
        return True

    monkeypatch.setattr(local._log, "filters", [stop_when_told])
    with (tmp_path / "_state/.scratch/lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(2):
            with pytest.raises(StoppedError):
                store.put("l", b"1", expected=None)
    [said] = [record.getMessage() for record in caplog.records]
    assert said == f"waiting for another writer, which holds {tmp_path}/_state/.scratch/lock"
    store.put("l", b"1", expected=None)
