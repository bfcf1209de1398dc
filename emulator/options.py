"""How one embedded service behaves: every choice that AWS leaves open, or that a test wants to make."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """The behaviour of one service, fixed when it is made.

    The defaults follow AWS's documentation (HealthImaging endpoints and quotas; API reference of
    SearchImageSets) where there is any, and the kinder reading where there is none.

    Args:
        rate: Requests a second that SearchImageSets and GetImageSet share; None never throttles anything.
        burst: Requests that may come at once before `rate` counts.
        metadata_rate: Requests a second of GetImageSetMetadata.
        metadata_burst: Requests of it that may come at once.
        metadata_lag: Seconds after it was created or changed for which an image set's metadata is not consistent yet.
        latency: Seconds that every answer takes, throttled ones excepted.
        visibility_lag: Seconds after its `updatedAt` (its deletion) until search shows a change;
            GetImageSet shows it at once.
        older_api: Speak the older reference: `sort` is ignored and not answered, and a filter on
            updatedAt is refused.
        ignore_sort: Always order by updatedAt DESC, whatever was asked, and say so in the answer.
        between_inclusive: Whether BETWEEN includes its two ends.
        truncate_filter_seconds: Cut the bounds of a filter down to whole seconds, as botocore before
            1.43.93 did on its way out.
        token_ttl: Seconds, by the service's clock, for which a page token is good; None for ever.
        offset_tokens: Tokens count rows from the front instead of naming the last row, so a change
            between two pages moves the next page.
        deleted_is_gone: GetImageSet answers ResourceNotFoundException for a deleted image set, instead of
            its state DELETED.
        denied: Names of operations that answer AccessDeniedException.
        region: The region in ARNs, for which requests must be signed.
        account: The twelve-digit account in ARNs.
    """

    rate: float | None = 25.0
    burst: int = 50
    metadata_rate: float = 50.0
    metadata_burst: int = 100
    metadata_lag: float = 0.0
    latency: float = 0.0
    visibility_lag: float = 0.0
    older_api: bool = False
    ignore_sort: bool = False
    between_inclusive: bool = True
    truncate_filter_seconds: bool = False
    token_ttl: float | None = None
    offset_tokens: bool = False
    deleted_is_gone: bool = False
    denied: frozenset[str] = frozenset()
    region: str = "us-east-1"
    account: str = "000000000000"

    def __post_init__(self) -> None:
        if min(self.metadata_rate, 1.0 if self.rate is None else self.rate) <= 0:
            raise ValueError("rate is requests a second: give a number above 0, or None for no limit")
        if min(self.burst, self.metadata_burst) < 1:
            raise ValueError("burst is a number of requests: give 1 or more")
        if min(self.latency, self.visibility_lag, self.metadata_lag, self.token_ttl or 0.0) < 0:
            raise ValueError("latency, the two lags and token_ttl are seconds: give 0 or more")
