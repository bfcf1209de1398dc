"""The data store as a scan sees it: pages, the time it was made, whether an image set still exists.

Every request passes the limiter, and every retry again. Throttling, 5xx, dropped connections and half bodies
are retried with capped exponential back-off and full jitter
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

import botocore.exceptions
import tenacity
from botocore.parsers import ResponseParserError

from connectors.errors import SourceError, ThrottledError, TransientError
from connectors.healthimaging.client import Client, make_client, raw_body
from connectors.healthimaging.failures import is_not_found, translate
from connectors.healthimaging.pages import Page, Search, read_page
from connectors.healthimaging.quota import Limiter
from connectors.settings import PAGE_ROWS, Settings
from connectors.windows import floor_second
from schemas import MalformedSummaryError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_CONFIRMING: Final = 2
"""Connections for what publishing asks about image sets, beside those of the scans."""
_IMAGE_SET_ID: Final = re.compile(r"[0-9a-z]{32}")
_LONGEST_BACKOFF: Final = 20.0
_FIRST_BACKOFF: Final = 0.2


@dataclass(slots=True)
class Tally:
    """What a piece of work asked of the service. Not shared between threads; add them up instead."""

    requests: int = 0
    throttles: int = 0
    retries: int = 0

    def add(self, other: "Tally") -> None:
        """Count the other's requests here too."""
        self.requests += other.requests
        self.throttles += other.throttles
        self.retries += other.retries


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """What GetImageSet says of an image set that exists; the times are aware UTC, None where it leaves them out."""

    version: int
    created_at: datetime | None
    updated_at: datetime | None


class Source:
    """One data store, read within the quota. Thread-safe.

    Args:
        datastore_id: The data store.
        client: boto3's client, or one that answers like it.
        limiter: The process's quota.
        stop: Set when the run is asked to stop; waiting requests then raise StoppedError.
        max_attempts: Tries of one request.
        backoff: Seconds to wait after so many tries; a test hands in none.
    """

    def __init__(
        self,
        datastore_id: str,
        client: Client,
        limiter: Limiter,
        *,
        stop: threading.Event,
        max_attempts: int = 10,
        backoff: Callable[[tenacity.RetryCallState], float] | None = None,
    ) -> None:
        self._id = datastore_id
        self._client = client
        self._limiter = limiter
        self._stop = stop
        self._max_attempts = max_attempts
        self._backoff = backoff or tenacity.wait_random_exponential(multiplier=_FIRST_BACKOFF, max=_LONGEST_BACKOFF)

    @property
    def has_room(self) -> bool:
        """Whether the quota has room for more requests than are made now."""
        return self._limiter.has_room

    def page(self, search: Search, token: str | None, tally: Tally) -> Page:
        """One page of a search.

        Args:
            search: What to ask for.
            token: The page token of the page before; None for the first page.
            tally: Counts the requests made.

        Raises:
            InvalidRequestError: The page token, or the filter, is not accepted.
            SourceError: The service refuses, or failed so often that the run gives up.
            StoppedError: The run was asked to stop.
        """
        request: dict[str, Any] = {"maxResults": PAGE_ROWS, "searchCriteria": search.criteria()}
        if token is not None:
            request["nextToken"] = token

        def ask() -> Page:
            answer = self._client.search_image_sets(datastoreId=self._id, **request)
            return read_page(raw_body(answer), _served_at(answer))

        return self._try("SearchImageSets", ask, tally)

    def created_at(self, tally: Tally) -> tuple[datetime, datetime]:
        """When the data store was created, cut to the second, and the service's clock; both aware UTC."""

        def ask() -> tuple[datetime, datetime]:
            answer = self._client.get_datastore(datastoreId=self._id)
            return floor_second(_field(answer.get("datastoreProperties", {}), "createdAt")), _served_at(answer)

        return self._try("GetDatastore", ask, tally)

    def clock(self, tally: Tally) -> datetime:
        """The service's clock, aware UTC, cut to the second, for callers who may not call GetDatastore."""

        def ask() -> datetime:
            return _served_at(self._client.search_image_sets(datastoreId=self._id, maxResults=1))

        return self._try("SearchImageSets", ask, tally)

    def look_up(self, image_set_id: str, tally: Tally) -> ImageSet | None:
        """What the service itself, not its search, says of an image set now.

        Returns:
            None where the service confirms that there is none: not found, state DELETED, or no id of its form.
        """
        if not _IMAGE_SET_ID.fullmatch(image_set_id):
            return None

        def ask() -> ImageSet | None:
            try:
                answer = self._client.get_image_set(datastoreId=self._id, imageSetId=image_set_id)
            except botocore.exceptions.ClientError as error:
                if is_not_found(error):
                    return None
                raise
            if _field(answer, "imageSetState") == "DELETED":
                return None
            created, updated = answer.get("createdAt"), answer.get("updatedAt")
            return ImageSet(
                version=int(_field(answer, "versionId")),
                created_at=created.astimezone(UTC) if created else None,
                updated_at=updated.astimezone(UTC) if updated else None,
            )

        return self._try("GetImageSet", ask, tally)

    def _try(self, operation: str, ask: Callable[[], _T], tally: Tally) -> _T:
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._max_attempts),
            wait=self._backoff,
            sleep=self._sleep,
            retry=tenacity.retry_if_exception_type(TransientError),
            reraise=True,
        )
        result: _T = retrying(self._ask_once, operation, ask, tally)
        return result

    def _ask_once(self, operation: str, ask: Callable[[], _T], tally: Tally) -> _T:
        self._limiter.acquire(self._stop)
        tally.requests += 1
        try:
            return ask()
        except (
            botocore.exceptions.BotoCoreError,
            botocore.exceptions.ClientError,
            ResponseParserError,
            UnicodeDecodeError,
            MalformedSummaryError,
        ) as error:
            # Not chained: botocore's errors may quote the request, and a parser's the answer.
            failure: SourceError = translate(error, operation)
        if isinstance(failure, ThrottledError):
            tally.throttles += 1
            self._limiter.give_way()
        elif isinstance(failure, TransientError):
            tally.retries += 1
            _log.warning("%s", failure)
        raise failure

    def _sleep(self, seconds: float) -> None:
        # A stop ends the wait; the next try then meets it at the limiter.
        self._stop.wait(seconds)


def open_source(settings: Settings, stop: threading.Event) -> Source:
    """The data store of the settings, through boto3, with a limiter of its own."""
    return Source(
        settings.datastore_id,
        make_client(connections=settings.workers + _CONFIRMING),
        Limiter(settings.quota),
        stop=stop,
        max_attempts=settings.max_attempts,
    )


def _field(answer: dict[str, Any], name: str) -> Any:
    # botocore makes an answer without fields of a body that is no JSON.
    if name not in answer:
        raise MalformedSummaryError(f"an answer of the service has no {name}")
    return answer[name]


def _served_at(answer: dict[str, Any]) -> datetime:
    """The Date header of an answer (RFC 9110 section 6.6.1); the local clock where there is none."""
    header = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    try:
        return parsedate_to_datetime(header).astimezone(UTC)
    except (TypeError, ValueError):
        return floor_second(datetime.now(UTC))
