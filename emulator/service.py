"""The service itself: data stores, clock, quota, faults and counters behind one lock."""

import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ahi_catalog.emulator.clock import ServiceClock, to_micros, utc_now
from ahi_catalog.emulator.errors import denied, not_found, throttled
from ahi_catalog.emulator.faults import FaultPlan
from ahi_catalog.emulator.options import ServiceOptions
from ahi_catalog.emulator.search import PageTokens
from ahi_catalog.emulator.store import Datastore, lag_micros

METADATA = "GetImageSetMetadata"
_STORE_ID = re.compile(r"[0-9a-z]{32}")
_STORE_NAME = re.compile(r"[A-Za-z0-9._/#-]{1,256}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What the service did since its counters were last reset.

    Attributes:
        requests: Requests that arrived, by operation, whatever became of them.
        throttled: How many were answered 429, faults included.
        faults: Faults served, by kind.
    """

    requests: dict[str, int]
    throttled: int
    faults: dict[str, int]


class TokenBucket:
    """The request quota: lets `burst` requests through at once and `rate` a second after that.

    Reads no clock of its own. Not thread-safe: the service calls it under its lock.

    Args:
        rate: Tokens a second.
        burst: Tokens in a full bucket; it starts full.
        now: Seconds of a clock that never runs backwards, at the start.
    """

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> bool:
        """Take one token; False, and nothing taken, where there is none."""
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Service:
    """An embedded HealthImaging service. Thread-safe: tests change it while the server answers.

    Args:
        options: How it behaves.
        clock: Returns an aware datetime; the source of the service's time.
        monotonic: Seconds of a clock that never runs back, for the quota.
    """

    def __init__(
        self,
        options: ServiceOptions | None = None,
        *,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options = options or ServiceOptions()
        self.clock = ServiceClock(clock)
        self.faults = FaultPlan()
        self.lock = threading.RLock()
        self.tokens = PageTokens(self.options.token_ttl)
        self.datastores: dict[str, Datastore] = {}
        self._monotonic = monotonic
        self._buckets: dict[str, TokenBucket] = {}
        if self.options.rate is not None:
            now = monotonic()
            search = TokenBucket(self.options.rate, self.options.burst, now)
            metadata = TokenBucket(self.options.metadata_rate, self.options.metadata_burst, now)
            self._buckets = {"SearchImageSets": search, "GetImageSet": search, METADATA: metadata}
        self._requests: Counter[str] = Counter()
        self._throttled = 0

    # Time.

    def now(self) -> datetime:
        """The service's time, aware, in UTC."""
        return self.clock()

    def now_micros(self) -> int:
        """The service's time in epoch microseconds."""
        return to_micros(self.clock())

    def advance(self, by: timedelta) -> None:
        """Move the service's time forward, frozen or not."""
        self.clock.advance(by)

    # Image sets.

    def create_datastore(
        self, *, name: str, created_at: datetime | None = None, datastore_id: str | None = None
    ) -> str:
        """Make a data store and return its id, which follows from its name unless given.

        Args:
            name: 1 to 256 of `[A-Za-z0-9._/#-]`.
            created_at: Aware; now where not given.
            datastore_id: 32 of `[0-9a-z]`.

        Raises:
            ValueError: The name or the id is malformed, or the id is taken.
        """
        if not _STORE_NAME.fullmatch(name):
            raise ValueError("a data store's name is 1 to 256 characters of [A-Za-z0-9._/#-]")
        new = datastore_id or hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
        if not _STORE_ID.fullmatch(new):
            raise ValueError("a data store's id is 32 characters of [0-9a-z]")
        created = self.now_micros() if created_at is None else to_micros(created_at)
        with self.lock:
            if new in self.datastores:
                raise ValueError("there is a data store of this id already")
            self.datastores[new] = Datastore(new, name, created, lag_micros(self.options.visibility_lag))
        return new

    def insert(self, datastore_id: str, summaries: Iterable[Mapping[str, Any]]) -> int:
        """Add image sets, all of them or none; returns how many.

        Args:
            datastore_id: Where to.
            summaries: Dicts as in imageSetsMetadataSummaries; createdAt, updatedAt and lastAccessedAt are
                aware datetimes or ints of epoch microseconds; keys that the API does not know are kept.

        Raises:
            ValueError: A summary is malformed, or its id is there already.
        """
        with self.lock:
            return self.datastore(datastore_id).insert(summaries, self.now_micros())

    def update(
        self,
        datastore_id: str,
        image_set_id: str,
        changes: Mapping[str, Any],
        updated_at: datetime | int | None = None,
        *,
        new_version: bool = True,
    ) -> dict[str, Any]:
        """Change an image set: one version more, updated now; returns the summary as a client sees it.

        Args:
            datastore_id: Where it is.
            image_set_id: Which.
            changes: Top-level keys to replace, and in DICOMTags tag by tag; None removes a key.
            updated_at: The new updatedAt, where it is not now.
            new_version: False leaves version (and updatedAt, unless given) alone, as a change of storage
                tier or last access may.

        Raises:
            ServiceError: There is no such data store or image set.
        """
        with self.lock:
            now = self.now_micros()
            at = None if updated_at is None else to_micros(updated_at)
            if at is None and new_version:
                at = now
            store = self.datastore(datastore_id)
            return store.update(image_set_id, changes, at, now, new_version=new_version).summary()

    def delete(self, datastore_id: str, image_set_id: str) -> None:
        """Delete an image set.

        Raises:
            ServiceError: There is no such data store or image set.
        """
        with self.lock:
            self.datastore(datastore_id).delete(image_set_id, self.now_micros())

    def rows(self, datastore_id: str) -> list[dict[str, Any]]:
        """Every image set as a search that sees everything would show it now, by createdAt and id.

        Timestamps are floats of epoch seconds, as a client decodes the JSON.
        """
        with self.lock:
            records = list(self.datastore(datastore_id).current.values())
        records.sort(key=lambda record: (record.created, record.image_set_id))
        return [record.summary() for record in records]

    def datastore(self, datastore_id: str) -> Datastore:
        """A data store; hold the lock while using it.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        store = self.datastores.get(datastore_id)
        if store is None:
            raise not_found("data store")
        return store

    def prepare(self) -> None:
        """Build the orders that searches use most, so that the first request need not wait for it."""
        with self.lock:
            for store in self.datastores.values():
                store.index.order("updatedAt")

    # Requests.

    def arrived(self, operation: str) -> int:
        """Count a request; returns its number among those of its operation."""
        with self.lock:
            self._requests[operation] += 1
            return self._requests[operation]

    def admit(self, operation: str) -> None:
        """Let a request through that is allowed and within the quota.

        Raises:
            ServiceError: AccessDeniedException or ThrottlingException.
        """
        if operation in self.options.denied:
            raise denied(operation)
        bucket = self._buckets.get(operation)
        if bucket is None:
            return
        with self.lock:
            admitted = bucket.take(self._monotonic())
        if not admitted:
            raise throttled()

    def count_throttled(self) -> None:
        """Count an answer of 429."""
        with self.lock:
            self._throttled += 1

    @property
    def counters(self) -> Counters:
        """The counters as they are now."""
        with self.lock:
            return Counters(requests=dict(self._requests), throttled=self._throttled, faults=self.faults.served)

    def reset_counters(self) -> None:
        """Count from zero again, request numbers of faults included."""
        with self.lock:
            self._requests.clear()
            self._throttled = 0
            self.faults.reset_served()
