"""The settings of a run: what it reads, where it writes, and how fast.

Credentials, regions and endpoints are not here: they are boto3's own (``AWS_*``, profiles).
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from ahi_catalog.connectors.errors import UsageError

PAGE_ROWS: Final = 50
"""The most image sets that SearchImageSets puts on a page."""

_LATENCY: Final = 0.2
_FEWEST_WORKERS: Final = 8
_MOST_WORKERS: Final = 64
_LONGEST: Final = timedelta(days=36_500)
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""No image set is older."""
_SCHEDULER: Final = re.compile(r"(tcp|tls)://[A-Za-z0-9.:\[\]-]+:\d{1,5}")
_DATASTORE_ID: Final = re.compile(r"[0-9a-z]{32}")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")


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
class S3Access:
    """How objects in S3 are read and written.

    Attributes:
        bucket_owner: The account that must own the bucket, twelve digits; None: any.
        kms_key: Objects are encrypted with this key of AWS KMS: an id, an ARN or an alias.
        sse_s3: Objects are encrypted with S3's own keys, whatever the bucket's default.
    """

    bucket_owner: str | None = None
    kms_key: str | None = None
    sse_s3: bool = False

    def __post_init__(self) -> None:
        if self.bucket_owner is not None and not _ACCOUNT.fullmatch(self.bucket_owner):
            raise UsageError("a bucket owner is an AWS account id, twelve digits")
        if self.kms_key is not None and self.sse_s3:
            raise UsageError("give --kms-key or --sse-s3, not both")


def check_datastore_id(text: str) -> None:
    """See that a text may be a data store's id.

    Raises:
        UsageError: It is none.
    """
    if not _DATASTORE_ID.fullmatch(text):
        raise UsageError("a data store id is 32 of 0-9 and a-z; list yours with: aws medical-imaging list-datastores")


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
        phi: ``keep``, ``pseudonymize``, ``drop``, or None: the catalog's own, and ``keep`` for a new catalog.
        keep_text, shift_dates: Of ``pseudonymize`` (`schemas.phi.PhiPolicy`).
        phi_key_from: Where the key of pseudonyms is kept (`connectors.phi_key`); never the key.
        s3: How objects in S3 are read and written.
        page_budget: Pages after which a scan hands the rest of its window back.
        buffer_rows: Rows held in memory before partitions are published early; compressed ones count as a fifth.
        max_attempts: Tries of one request before the run gives up.
        dask: The scheduler of the Dask cluster whose workers scan, as ``tcp://host:8786``; ``local``: a cluster of
            processes on this machine; None: threads of this process.
    """

    catalog: str
    datastore_id: str
    quota: Quota = Quota()
    concurrency: int | None = None
    settle: timedelta = timedelta(minutes=10)
    look_back: timedelta = timedelta(days=1)
    start: datetime | None = None
    partition: str | None = None
    phi: str | None = None
    keep_text: bool = False
    shift_dates: bool = False
    phi_key_from: str = "env"
    s3: S3Access = S3Access()
    page_budget: int = 40
    buffer_rows: int = 50_000
    max_attempts: int = 10
    dask: str | None = None

    def __post_init__(self) -> None:
        check_datastore_id(self.datastore_id)
        if not all(timedelta() <= held <= _LONGEST for held in (self.settle, self.look_back)):
            raise UsageError("settle and look-back are between 0 and 36500d")
        if self.start is not None and self.start < EARLIEST:
            raise UsageError("coverage cannot begin before 1970-01-01: no image set is that old")
        if self.phi not in (None, "keep", "pseudonymize", "drop"):
            raise UsageError("a PHI policy is keep, pseudonymize or drop")
        if (self.keep_text or self.shift_dates) and self.phi != "pseudonymize":
            raise UsageError("--keep-text and --shift-dates go with --phi pseudonymize")
        if min(self.workers, self.page_budget, self.buffer_rows, self.max_attempts) < 1:
            raise UsageError("concurrency, page budget, buffer and attempts must be at least 1")
        if self.dask is not None and self.dask != "local" and not _SCHEDULER.fullmatch(self.dask):
            raise UsageError("a Dask cluster is tcp://host:port or tls://host:port, or local for one on this machine")

    @property
    def workers(self) -> int:
        """Windows scanned side by side."""
        return self.quota.workers if self.concurrency is None else self.concurrency
