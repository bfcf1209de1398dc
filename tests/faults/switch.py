"""A store in memory and a client that die together: a crash inside this process, exactly where a test wants it."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ahi_catalog.connectors.storage import Entry, MemoryStore, Stored
from ahi_catalog.pipeline import run


class CrashError(BaseException):
    """The process is no more. Nothing in the program may catch it."""


class Switch:
    """Counts requests and puts, and turns everything off at the one that is chosen.

    Attributes:
        before_put: Called with the number of a put, before it is applied.
    """

    def __init__(self) -> None:
        self.before_put: Callable[[int], None] | None = None
        self._lock = threading.Lock()
        self._crash_at: tuple[str, int] | None = None
        self._counts = {"request": 0, "put before": 0, "put after": 0}
        self._is_off = False

    @contextmanager
    def crashing_at(self, what: str, number: int) -> Iterator[None]:
        """While the block runs, everything ends at a ``request``, ``put before`` or ``put after`` of a number."""
        self._counts = dict.fromkeys(self._counts, 0)
        self._crash_at, self._is_off = (what, number), False
        try:
            yield
        finally:
            self._crash_at, self._is_off = None, False

    @contextmanager
    def calling(self, call: Callable[[], None], number: int) -> Iterator[None]:
        """While the block runs, a function is called before the put of a number; puts inside it do not count."""
        self._counts = dict.fromkeys(self._counts, 0)

        def call_once(count: int) -> None:
            if count == number:
                self.before_put = None
                call()

        self.before_put = call_once
        try:
            yield
        finally:
            self.before_put = None

    def pass_by(self, what: str) -> int:
        """One more of these; its number.

        Raises:
            CrashError: This is where it ends, or it has ended.
        """
        with self._lock:
            self._counts[what] += 1
            self._is_off |= self._crash_at == (what, self._counts[what])
            if self._is_off:
                raise CrashError
            return self._counts[what]


class SwitchedStore(MemoryStore):
    """The store in memory, which a switch turns off; also the place where a witness looks."""

    def __init__(self, switch: Switch) -> None:
        super().__init__()
        self._switch = switch

    def get(self, key: str) -> Stored | None:
        found = super().get(key)
        if self._switch._is_off:
            raise CrashError
        return found

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        number = self._switch.pass_by("put before")
        if self._switch.before_put:
            self._switch.before_put(number)
        etag = super().put(key, body, expected=expected)
        self._switch.pass_by("put after")
        return etag

    def objects(self, prefix: str) -> dict[str, bytes]:
        """As a `Place`."""
        return {key: body for key, body in sorted(self._objects.items()) if key.startswith(prefix)}

    def fill(self, objects: Mapping[str, bytes]) -> None:
        """As a `Place`."""
        self._objects.update(objects)

    def remove(self, key: str) -> None:
        """As a `Place`."""
        del self._objects[key]

    def entries(self, prefix: str) -> Iterator[Entry]:
        if self._switch._is_off:
            raise CrashError
        return super().entries(prefix)


@contextmanager
def running_on(store: SwitchedStore) -> Iterator[None]:
    """Jobs of this process open this store, whatever URL their settings name."""
    module: Any = run
    before = module.open_store
    module.open_store = lambda *_: store
    try:
        yield
    finally:
        module.open_store = before
