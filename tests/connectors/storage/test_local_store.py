"""What only a local folder can meet: a full disk, killed writers, files in the way."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ahi_catalog.connectors.errors import StoreError
from ahi_catalog.connectors.storage import LocalStore

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
