"""The interface of a store: read, list, and replace a whole object if it is still the one that was read."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from io import BufferedReader
from typing import Final, Protocol, runtime_checkable

_KEY: Final = re.compile(r"[A-Za-z0-9_=][A-Za-z0-9_=.:-]*(?:/[A-Za-z0-9_=][A-Za-z0-9_=.:-]*)*")

_digest = partial(hashlib.blake2b, digest_size=16)


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as it was read.

    Attributes:
        body: Its bytes.
        etag: Names this very content to a later conditional put; opaque, kept as the store gave it.
    """

    body: bytes = field(repr=False)
    etag: str


@dataclass(frozen=True, slots=True)
class Entry:
    """An object in a listing.

    Attributes:
        key: Its key.
        size: In bytes.
        version: Changes whenever the object is replaced; opaque. In S3 the etag.
    """

    key: str
    size: int
    version: str


def is_folder_marker(entry: Entry) -> bool:
    """Whether an entry only stands for a folder, as consoles, EMR and s3fs leave them; readers skip those too."""
    return entry.size == 0 and entry.key.endswith(("/", "_$folder$"))


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of an object.

    Attributes:
        body: The bytes.
        start: Where they begin in the object.
        size: Of the whole object, in bytes.
        etag: Of the object that they were read from.
    """

    body: bytes = field(repr=False)
    start: int
    size: int
    etag: str


class Store(Protocol):
    """Whole objects under a root.

    A put replaces an object at once and only if it is the one expected: a reader sees the old bytes or the new
    ones, and of several writers that expect the same object one wins. Keys are relative, of letters, digits and
    ``_=.:-`` in parts split by ``/``; no part begins with a dot, so none leaves the root. Thread-safe.
    """

    @property
    def url(self) -> str:
        """The root, as a user would write it."""
        ...

    @property
    def writers(self) -> int:
        """Objects worth replacing side by side: many where a write is mostly waiting for an answer."""
        ...

    def get(self, key: str) -> Stored | None:
        """The object, or None where there is none.

        Raises:
            StoreError: It cannot be read.
        """
        ...

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        """Replace the object; its new etag. Safe to repeat: an object that holds these bytes already is done.

        Args:
            key: The object.
            body: Its new bytes.
            expected: The etag of the object to replace; None where there must be none yet.

        Raises:
            ConflictError: The object is another one than expected.
            StoreError: It cannot be written; the old object is as it was, unless it is the disk that does not confirm.
            StoppedError: The run was asked to stop while another writer kept this one waiting.
        """
        ...

    def entries(self, prefix: str) -> Iterator[Entry]:
        """The objects whose keys begin with the prefix (a folder, ending in ``/``), in any order: servers differ.

        Folder markers are left out.

        Raises:
            StoreError: They cannot be listed.
        """
        ...


@runtime_checkable
class RangeStore(Store, Protocol):
    """A store whose objects can be read in parts, as remote ones had better be. Thread-safe."""

    def get_part(self, key: str, start: int, length: int) -> Part | None:
        """Bytes of an object, as many of the asked ones as there are; None where there is no object.

        Args:
            key: The object.
            start: Of the bytes; negative: so many before the object's end, or from its start where it is shorter.
            length: How many, at least 1; counts for nothing where the start is negative.

        Raises:
            StoreError: They cannot be read.
        """
        ...


def content_etag(body: bytes) -> str:
    """An etag that names bytes by their content, for stores that have none of their own."""
    return _digest(body).hexdigest()


def file_etag(file: BufferedReader) -> str:
    """The same of a file's bytes, which are not held."""
    return hashlib.file_digest(file, _digest).hexdigest()


def check_key(key: str) -> str:
    """The key, if it is one.

    Raises:
        ValueError: It is not; a mistake of the program, since keys are made from checked parts.
    """
    if not _KEY.fullmatch(key):
        raise ValueError("not a key of the store")
    return key
