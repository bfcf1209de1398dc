"""The contract of a store, over every backend: memory, a local folder, and a real S3 server."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ahi_catalog.connectors.errors import ConflictError, StoreError
from ahi_catalog.connectors.storage import MemoryStore, Store, open_store
from ahi_catalog.connectors.storage.s3 import S3Store

KEY = "image_sets/created_date=2024-01-01/x.parquet"

# Root reads every folder, so it becomes nobody first.
_LIST_AS_NOBODY = """
import os, sys
from pathlib import Path
from ahi_catalog.connectors.storage import LocalStore
from ahi_catalog.connectors.errors import StoreError
store = LocalStore(Path(sys.argv[1]))
if os.geteuid() == 0:
    os.setuid(65534)
try:
    print(list(store.entries("image_sets/")))
except StoreError as error:
    print(error)
"""


@pytest.fixture(params=["memory", "local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """One store of each kind."""
    made: dict[str, Callable[[], Store]] = {
        "memory": MemoryStore,
        "local": lambda: open_store(str(tmp_path / "catalog")),
        "s3": lambda: open_store(request.getfixturevalue("s3_url")),
    }
    return made[request.param]()


def test_an_object_reads_back_as_it_was_written(store: Store) -> None:
    """Any bytes come back, with the etag that the put gave; what was never written is None."""
    assert store.get(KEY) is None
    body = bytes(range(256)) * 5
    etag = store.put(KEY, body, expected=None)
    found = store.get(KEY)
    assert found is not None
    assert (found.body, found.etag) == (body, etag)


def test_a_put_replaces_only_what_it_expects(store: Store) -> None:
    """A create over an object, a replace of another version, and a replace of nothing change nothing."""
    first = store.put(KEY, b"one", expected=None)
    with pytest.raises(ConflictError):
        store.put(KEY, b"two", expected=None)
    second = store.put(KEY, b"two", expected=first)
    with pytest.raises(ConflictError):
        store.put(KEY, b"three", expected=first)
    with pytest.raises(ConflictError):
        store.put("image_sets/other", b"x", expected=second)
    found = store.get(KEY)
    assert found is not None
    assert found.body == b"two"


def test_a_put_may_be_repeated(store: Store) -> None:
    """Writing the bytes that are there already is done, whatever was expected: a lost answer costs nothing."""
    first = store.put(KEY, b"one", expected=None)
    assert store.put(KEY, b"one", expected=None) == first
    store.put(KEY, b"two", expected=first)
    store.put(KEY, b"two", expected=first)


def test_of_writers_that_meet_one_wins(store: Store) -> None:
    """Of several writers that expect the same object one succeeds, and its bytes stand."""
    start = store.put(KEY, b"start", expected=None)

    def write(number: int) -> bytes | None:
        body = b"writer %d" % number
        try:
            store.put(KEY, body, expected=start)
        except ConflictError:
            return None
        return body

    with ThreadPoolExecutor(4) as writers:
        won = [body for body in writers.map(write, range(4)) if body]
    found = store.get(KEY)
    assert found is not None
    assert won == [found.body]


def test_no_update_is_lost(store: Store) -> None:
    """Three writers that read, add and write back until they succeed lose no addition.

    The additions differ: the same bytes twice would be the same put, repeated.
    """

    def add(letter: str) -> None:
        while True:
            found = store.get(KEY)
            try:
                store.put(KEY, (found.body if found else b"") + letter.encode(), expected=found.etag if found else None)
            except ConflictError:
                continue
            return

    with ThreadPoolExecutor(3) as writers:
        list(writers.map(add, "abcdef"))
    found = store.get(KEY)
    assert found is not None
    assert sorted(found.body.decode()) == list("abcdef")


def test_a_listing_has_the_objects_below_a_prefix(store: Store) -> None:
    """Keys and sizes below a folder, each once; nothing from beside it."""
    for key in ("a/2/x", "a/1/y", "b/3", "ab", "a/1-2/x", "a/1/x"):
        store.put(key, key.encode() * 2, expected=None)
    found = sorted((entry.key, entry.size) for entry in store.entries("a/"))
    assert found == [("a/1-2/x", 14), ("a/1/x", 10), ("a/1/y", 10), ("a/2/x", 10)]
    assert list(store.entries("c/")) == []


def test_a_listing_tells_a_replaced_object_from_the_one_before(store: Store) -> None:
    """The version stays while the object does, and changes with it, as many bytes as it may have."""
    etag = store.put(KEY, b"one", expected=None)
    [before], [again] = store.entries("image_sets/"), store.entries("image_sets/")
    store.put(KEY, b"two", expected=etag)
    [after] = store.entries("image_sets/")
    assert before == again
    assert before.version != after.version


def test_s3_copies_an_object_as_it_was_listed(s3_url: str) -> None:
    """Inside of the server, and not once it was replaced or removed; deleting twice is deleting once."""
    source, target = open_store(f"{s3_url}/a"), open_store(f"{s3_url}/b")
    assert isinstance(source, S3Store)
    assert isinstance(target, S3Store)
    etag = source.put(KEY, b"one", expected=None)
    [listed] = source.entries("image_sets/")
    target.copy(source, listed, "copies/x")
    found = target.get("copies/x")
    assert found is not None
    assert found.body == b"one"
    source.put(KEY, b"two", expected=etag)
    with pytest.raises(ConflictError):
        target.copy(source, listed, "copies/x")
    target.delete("copies/x")
    target.delete("copies/x")
    assert target.get("copies/x") is None
    source.delete(KEY)
    with pytest.raises(ConflictError):
        target.copy(source, listed, "copies/x")


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/.hidden", "a\0b", "a b"])
def test_no_key_leaves_the_root(store: Store, key: str) -> None:
    """Keys that are no plain paths below the root are refused."""
    with pytest.raises(ValueError, match="not a key"):
        store.get(key)
    with pytest.raises(ValueError, match="not a key"):
        store.put(key, b"", expected=None)


def test_a_local_folder_that_cannot_be_listed_is_an_error() -> None:
    """One unreadable partition fails the listing in one line; it is not left out, which would hide its rows."""
    # Not in tmp_path, whose parents are closed to nobody.
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        store = open_store(root)
        store.put("image_sets/other/x.parquet", b"x", expected=None)
        store.put(KEY, b"x", expected=None)
        for folder in ("image_sets", "image_sets/other"):
            (Path(root) / folder).chmod(0o755)
        closed = (Path(root) / KEY).parent
        closed.chmod(0)
        try:
            command = [sys.executable, "-c", _LIST_AS_NOBODY, root]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        finally:
            closed.chmod(0o700)
    assert done.stdout.startswith("cannot list image_sets/ in the catalog's folder: Permission denied")


def test_a_listing_below_a_file_is_an_error(tmp_path: Path) -> None:
    """A catalog's folder that is a file is no empty catalog."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot list image_sets/"):
        list(open_store(str(tmp_path / "file")).entries("image_sets/"))
