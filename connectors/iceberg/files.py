"""The files of Iceberg tables, read and written as the catalog's are: with the same session, encryption and checks.

PyIceberg calls `TableFiles` where it would use Arrow's S3 client, which has credentials and endpoints of its own, and
takes two requests to read a manifest and three to write one.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Final

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
from cachetools import LRUCache
from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.typedef import EMPTY_DICT, Properties

from ahi_catalog.connectors import aws
from ahi_catalog.connectors.catalog import parquet
from ahi_catalog.connectors.errors import ConflictError, DamagedError, Remedy, StoreError
from ahi_catalog.connectors.settings import S3Access
from ahi_catalog.connectors.storage import Entry, Store
from ahi_catalog.connectors.storage.base import Part, RangeStore
from ahi_catalog.connectors.storage.local import LocalStore
from ahi_catalog.connectors.storage.opening import split_url
from ahi_catalog.connectors.storage.private_files import PrivateFiles
from ahi_catalog.connectors.storage.s3 import S3Store, open_s3_store

_TAIL_BYTES: Final = 64 << 10
"""The end of a Parquet object that is read for its footer."""
_HELD_BYTES: Final = 32 << 20
"""Of manifests that are read again in the same run."""
_S3_TABLES: Final = "-table-s3"
"""The end of the name of a bucket of S3 Tables, into which S3 does not copy."""
_LOCAL: Final = PrivateFiles("the Iceberg tables", "drop them and mirror again")
_CREDENTIALS: Final = ("access-key-id", "secret-access-key", "session-token")


class Stores:
    """Where the files of tables lie, opened once each.

    Args:
        access: Whose buckets they must be, and how objects are encrypted.
    """

    def __init__(self, access: S3Access) -> None:
        self._access = access
        self._opened: dict[tuple[str, str | None], S3Store] = {}
        self._manifests: LRUCache[str, bytes] = LRUCache(_HELD_BYTES, getsizeof=len)
        self._lock = threading.Lock()

    def place(self, location: str, properties: Properties) -> tuple[S3Store | None, str]:
        """The store and the key of a location in S3; None and the path of a local one.

        Raises:
            UsageError: It is neither.
        """
        bucket, path = split_url(location.replace("s3a://", "s3://", 1) if location.startswith("s3a://") else location)
        if bucket is None:
            return None, path
        # A REST catalog may lend credentials for its tables.
        key_id, secret, token = (properties.get(f"s3.{name}") for name in _CREDENTIALS)
        with self._lock:
            if (store := self._opened.get((bucket, key_id))) is None:
                lent = key_id and boto3.Session(
                    key_id, secret, token, region_name=properties.get("s3.region") or aws.current_session().region_name
                )
                with aws.using(lent or aws.current_session()):
                    store = self._opened[bucket, key_id] = open_s3_store(bucket, "", self._access)
        return store, path

    def held(self, location: str) -> bytes | None:
        """A manifest that was read or written before."""
        with self._lock:
            return self._manifests.get(location)

    def hold(self, location: str, body: bytes) -> None:
        """Keep a file to be read again, if it is a manifest: they never change."""
        if location.endswith(".avro") and len(body) <= _HELD_BYTES:
            with self._lock:
                self._manifests[location] = body


_STORES: ContextVar[Stores] = ContextVar("stores")


@contextmanager
def opening(stores: Stores) -> Iterator[None]:
    """Catalogs of PyIceberg that are loaded inside, with `TableFiles`, use these stores."""
    token = _STORES.set(stores)
    try:
        yield
    finally:
        _STORES.reset(token)


class TableFiles(FileIO):
    """PyIceberg's way to files, by the stores of `opening`."""

    def __init__(self, properties: Properties = EMPTY_DICT) -> None:
        super().__init__(properties)
        self.stores = _STORES.get()

    def place(self, location: str) -> str:
        """Where a location is, as a user would write it."""
        store, path = self._place(location)
        return f"{store.url}/{path}" if store else path

    def new_input(self, location: str) -> "_Input":
        return _Input(location, self)

    def new_output(self, location: str) -> "_Output":
        return _Output(location, self)

    def read(self, location: str) -> bytes:
        """The bytes of a file; manifests, which never change, are held.

        Raises:
            FileNotFoundError: There is none.
            StoreError: It cannot be read.
        """
        if (held := self.stores.held(location)) is not None:
            return held
        store, path = self._place(location)
        if store is None:
            body = Path(path).read_bytes()
        elif (stored := store.get(path)) is None:
            raise FileNotFoundError(location)
        else:
            body = stored.body
        self.stores.hold(location, body)
        return body

    def write(self, location: str, body: bytes) -> None:
        """Make a file.

        Raises:
            ConflictError: There is another one.
            StoreError: It cannot be written.
        """
        store, path = self._place(location)
        if store is None:
            _write_local(Path(path), body)
        else:
            store.put(path, body, expected=None)
        self.stores.hold(location, body)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Delete a file, if there is one.

        Raises:
            StoreError: It cannot be deleted.
        """
        store, path = self._place(location if isinstance(location, str) else location.location)
        if store is None:
            Path(path).unlink(missing_ok=True)
        else:
            store.delete(path)

    def list(self, folder: str) -> Iterator[str]:
        """The locations of the files below one that ends in a slash.

        Raises:
            StoreError: They cannot be listed.
        """
        store, path = self._place(folder.rstrip("/"))
        if store is not None:
            found = (entry.key.removeprefix(f"{path}/") for entry in store.entries(f"{path}/"))
        else:
            found = (each.relative_to(path).as_posix() for each in Path(path).rglob("*") if each.is_file())
        return (f"{folder}{name}" for name in found)

    def copy(self, source: Store, entry: Entry, location: str) -> tuple[pq.FileMetaData, int]:
        """Copy the bytes of a data object, inside of S3 where both ends are there; its footer, and its size in bytes.

        Raises:
            ConflictError: The object was replaced since it was listed.
            DamagedError: It is no Parquet object.
            StoreError: It cannot be copied.
        """
        target, path = self._place(location)
        is_lent = "s3.access-key-id" in self.properties
        if isinstance(source, S3Store) and target and not is_lent and not target.url.endswith(_S3_TABLES):
            tail = _tail(source, entry)
            target.copy(source, entry, path)
            return _footer(entry.key, tail.body), tail.size
        stored = source.get(entry.key)
        # A local file has a version of its own for each put, and is copied again after one.
        if stored is None or not (isinstance(source, LocalStore) or stored.etag == entry.version):
            raise ConflictError(f"{entry.key} was replaced since it was listed")
        footer = _footer(entry.key, stored.body)
        self.write(location, stored.body)
        return footer, len(stored.body)

    def _place(self, location: str) -> tuple[S3Store | None, str]:
        return self.stores.place(location, self.properties)


class _Input(InputFile):
    def __init__(self, location: str, files: TableFiles) -> None:
        super().__init__(location)
        self._files = files

    def __len__(self) -> int:
        return len(self._read())

    def exists(self) -> bool:
        try:
            self._read()
        except FileNotFoundError:
            return False
        return True

    def open(self, seekable: bool = True) -> InputStream:  # noqa: ARG002, FBT001, FBT002  # PyIceberg's signature
        return BytesIO(self._read())

    def _read(self) -> bytes:
        return self._files.read(self.location)


class _Output(OutputFile):
    def __init__(self, location: str, files: TableFiles) -> None:
        super().__init__(location)
        self._files = files

    def __len__(self) -> int:
        return len(self.to_input_file())

    def exists(self) -> bool:
        return self.to_input_file().exists()

    def to_input_file(self) -> _Input:
        return self._files.new_input(self.location)

    def create(self, overwrite: bool = False) -> OutputStream:  # noqa: ARG002, FBT001, FBT002  # as above
        # Names of metadata files are never used again.
        return _Writing(self.location, self._files)


class _Writing(BytesIO):
    """Bytes that become a file when they are complete."""

    def __init__(self, location: str, files: TableFiles) -> None:
        super().__init__()
        self._location = location
        self._files = files

    def close(self) -> None:
        if not self.closed:
            self._files.write(self._location, self.getvalue())
        super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        super().close()


def _tail(source: RangeStore, entry: Entry) -> Part:
    """The end of an object, with its whole footer."""
    length = _TAIL_BYTES
    while True:
        part = source.get_part(entry.key, -length, length)
        if part is None or part.etag != entry.version:
            raise ConflictError(f"{entry.key} was replaced since it was listed")
        if (start := parquet.footer_start(part)) >= part.start:
            return part
        length = part.size - start


def _footer(key: str, body: bytes) -> pq.FileMetaData:
    try:
        return pq.read_metadata(pa.BufferReader(body))
    except pa.ArrowException:
        failure = DamagedError(f"{key}: it is no Parquet object", remedy=Remedy.REPAIR)
    raise failure


def _write_local(path: Path, body: bytes) -> None:
    try:
        _LOCAL.write(path, body, unfinished=path.with_name(f".{path.name}.part"))
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or type(error).__name__}; check the path") from None
