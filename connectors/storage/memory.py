"""A store in memory, for tests and simulations."""

import threading
from collections.abc import Iterator

from ahi_catalog.connectors.errors import ConflictError
from ahi_catalog.connectors.storage.base import Entry, Part, Stored, check_key, content_etag


class MemoryStore:
    """Objects in a dictionary; the promises of `Store`, kept by one lock."""

    writers = 2

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return "memory:"

    def get(self, key: str) -> Stored | None:
        body = self._objects.get(check_key(key))
        return None if body is None else Stored(body, content_etag(body))

    def get_part(self, key: str, start: int, length: int) -> Part | None:
        found = self.get(key)
        if found is None:
            return None
        size = len(found.body)
        start, stop = (max(0, size + start), size) if start < 0 else (start, start + length)
        return Part(found.body[start:stop], start, size, found.etag)

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        with self._lock:
            found = self.get(key)
            if (found.etag if found else None) != expected and (found is None or found.body != body):
                raise ConflictError(f"{key} was written by another run")
            self._objects[key] = body
        return content_etag(body)

    def entries(self, prefix: str) -> Iterator[Entry]:
        with self._lock:
            found = [
                Entry(key, len(body), content_etag(body))
                for key, body in self._objects.items()
                if key.startswith(prefix)
            ]
        return iter(found)
