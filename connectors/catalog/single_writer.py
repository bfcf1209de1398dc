"""A catalog whose store has no conditional writes: one run at a time, guarded as well as can be without them.

A run holds a lease, a small object that it renews while it writes, so that a second run is refused and a killed
one blocks nobody for long. Each put compares before it writes, and reads back afterwards. Between the comparison
and the write there is a gap that no care closes: two runs that start within the same instant can both believe
that they are alone. That is why such a catalog is only made where the user says so.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

from ahi_catalog.connectors.catalog.layout import STATE
from ahi_catalog.connectors.errors import ConflictError, StoreError
from ahi_catalog.connectors.storage import Entry, Store, Stored
from ahi_catalog.connectors.windows import floor_second, format_time, parse_time

_log = logging.getLogger(__name__)

LEASE_KEY: Final = f"{STATE}writer.json"
LEASE: Final = timedelta(minutes=15)
"""After so long without a renewal its holder counts as dead."""
_RENEWAL: Final = timedelta(minutes=1)

Clock = Callable[[], datetime]


class SingleWriterStore:
    """A store whose puts compare by themselves, as long as this run holds the lease.

    Args:
        store: The store underneath; its conditional writes are not relied on.
        run_id: This run.
        clock: Aware.
    """

    writers = 2

    def __init__(self, store: Store, run_id: str, clock: Clock) -> None:
        self._store = store
        self._run_id = run_id
        self._clock = clock
        self._lock = threading.Lock()
        self._renewed_at = clock()

    @property
    def url(self) -> str:
        return self._store.url

    def get(self, key: str) -> Stored | None:
        return self._store.get(key)

    def entries(self, prefix: str) -> Iterator[Entry]:
        return self._store.entries(prefix)

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        with self._lock:
            self._renew_lease()
            found = self._store.get(key)
            if found is not None and found.body == body:
                return found.etag
            if (found.etag if found else None) != expected:
                raise ConflictError(f"{key} was written by another run")
            return self._write(key, body)

    def overwrite(self, key: str, body: bytes) -> str:
        with self._lock:
            return self._write(key, body)

    def take_lease(self) -> None:
        """Begin to be the one writer.

        Raises:
            StoreError: Another run is, or seems to be.
        """
        holder, renewed_at = self._lease()
        if holder not in ("", self._run_id) and self._clock() - renewed_at < LEASE:
            raise StoreError(
                f"{self.url}: run {holder} is writing to this catalog of a single writer (last sign of life "
                f"{format_time(renewed_at)}); wait for its end, or {LEASE.seconds // 60} minutes if it died"
            )
        self._write_lease(self._run_id)

    def give_lease_back(self) -> None:
        """Let the next run in at once."""
        if self._lease()[0] == self._run_id:
            self._write_lease("")

    def _renew_lease(self) -> None:
        if self._clock() - self._renewed_at < _RENEWAL:
            return
        holder, _ = self._lease()
        if holder != self._run_id:
            raise StoreError(f"{self.url}: run {holder or 'another'} has taken this catalog over; run again later")
        self._write_lease(self._run_id)

    def _write_lease(self, run_id: str) -> None:
        self._renewed_at = self._clock()
        lease = {"run_id": run_id, "renewed_at": format_time(floor_second(self._renewed_at))}
        self._write(LEASE_KEY, json.dumps(lease).encode() + b"\n")

    def _lease(self) -> tuple[str, datetime]:
        """Who holds the lease ("" for nobody), and since when there was no sign of life."""
        stored = self._store.get(LEASE_KEY)
        if stored is None:
            return "", self._clock()
        try:
            lease = json.loads(stored.body)
            return str(lease["run_id"]), parse_time(lease["renewed_at"])
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{self.url}: {LEASE_KEY} is damaged; delete it if no run is going on") from None

    def _write(self, key: str, body: bytes) -> str:
        etag = self._store.overwrite(key, body)
        found = self._store.get(key)
        if found is None or found.body != body:
            raise ConflictError(f"{key} was written by another run")
        return etag


@contextmanager
def writing_alone(store: Store, run_id: str, clock: Clock) -> Iterator[Store]:
    """The store, guarded, for as long as the block runs.

    Raises:
        StoreError: Another run writes to the catalog.
    """
    guarded = SingleWriterStore(store, run_id, clock)
    guarded.take_lease()
    try:
        yield guarded
    finally:
        try:
            guarded.give_lease_back()
        except StoreError as error:
            # How the run itself ended matters more.
            _log.warning("the next run has to wait: %s", error)
