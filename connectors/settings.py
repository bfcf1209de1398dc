"""The settings of a run: what it reads, where it writes, and how fast.

Credentials, regions and endpoints are not here: they are boto3's own (``AWS_*``, profiles).
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from connectors.errors import UsageError

PAGE_ROWS: Final = 50
"""The most image sets that SearchImageSets puts on a page."""

_LATENCY: Final = 0.2
_FEWEST_WORKERS: Final = 8
_MOST_WORKERS: Final = 64
_LONGEST: Final = timedelta(days=36_500)
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DATASTORE_ID: Final = re.compile(r"[0-9a-z]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """The account's request quota for HealthImaging, as far as this process may use it.

    Attributes:
        rate: Requests a second.
        burst: Requests that may go out at once after a pause.
    """

    rate: float = 25.0
    burst: int = 50

    def __post_init__(self) -> None:
        if not 0 < self.rate < math.inf or self.burst < 1:
            raise UsageError("the rate must be above 0 and the burst at least 1")

    @property
    def workers(self) -> int:
        """Requests side by side that use the rate up while an answer takes a fifth of a second: rate times latency."""
        return min(max(math.ceil(self.rate * _LATENCY), _FEWEST_WORKERS), _MOST_WORKERS)

    def part(self, share: float) -> "Quota":
        """A share of the quota, so that others on the account keep the rest.

        Args:
            share: Above 0, at most 1.
        """
        if not 0 < share <= 1:
            raise UsageError("the share of the quota is above 0 and at most 1")
        return Quota(rate=self.rate * share, burst=max(1, int(self.burst * share)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a run needs to know, fixed when it starts. Holds no client, no credential, no patient's data.

    Attributes:
        catalog: ``s3://bucket/prefix`` or a local folder.
        datastore_id: The data store to read, 32 of [0-9a-z].
        quota: Request rate and burst.
        concurrency: Windows scanned side by side; None: as many as the quota's rate needs.
        settle: Held back from now: image sets younger than this may not be searchable yet.
        look_back: Read again behind the watermark, for image sets that became searchable late.
        start: Where coverage begins, aware UTC; None: when the data store was created.
        partition: ``day``, ``month``, or None: the catalog's own, and ``day`` for a new catalog.
        page_budget: Pages after which a scan hands the rest of its window back.
        buffer_rows: Rows held in memory before partitions are published early.
        max_attempts: Tries of one request before the run gives up.
    """

    catalog: str
    datastore_id: str
    quota: Quota = Quota()
    concurrency: int | None = None
    settle: timedelta = timedelta(minutes=10)
    look_back: timedelta = timedelta(days=1)
    start: datetime | None = None
    partition: str | None = None
    page_budget: int = 40
    buffer_rows: int = 50_000
    max_attempts: int = 10

    def __post_init__(self) -> None:
        if not _DATASTORE_ID.fullmatch(self.datastore_id):
            raise UsageError(
                "a data store id is 32 of 0-9 and a-z; list yours with: aws medical-imaging list-datastores"
            )
        if not all(timedelta() <= held <= _LONGEST for held in (self.settle, self.look_back)):
            raise UsageError("settle and look-back are between 0 and 36500d")
        if self.start is not None and self.start < _EARLIEST:
            raise UsageError("coverage cannot begin before 1970-01-01: no image set is that old")
        if min(self.workers, self.page_budget, self.buffer_rows, self.max_attempts) < 1:
            raise UsageError("concurrency, page budget, buffer and attempts must be at least 1")

    @property
    def workers(self) -> int:
        """Windows scanned side by side."""
        return self.quota.workers if self.concurrency is None else self.concurrency
