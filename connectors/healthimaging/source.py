"""The data store as a scan sees it: pages, the time it was made, whether an image set still exists."""

import re
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Final

import botocore.exceptions

from ahi_catalog.connectors.healthimaging.client import make_client, raw_body
from ahi_catalog.connectors.healthimaging.executor import BACKOFF, RequestCounts, RequestExecutor
from ahi_catalog.connectors.healthimaging.failures import is_not_found
from ahi_catalog.connectors.healthimaging.limiter import Limiter
from ahi_catalog.connectors.healthimaging.metadata import MetadataSource
from ahi_catalog.connectors.healthimaging.pages import PAGE_ROWS, Page, Search, read_page
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.connectors.windows import floor_second
from ahi_catalog.schemas import MalformedSummaryError

_CONFIRMING: Final = 16
"""Connections for what publishing asks about image sets, beside those of the scans."""
FLOW_SHARE: Final = 0.1
"""Of the quota, what a flow's process keeps for itself where the workers of a cluster scan."""
_ACTIVE: Final = "ACTIVE"
_IMAGE_SET_ID: Final = re.compile(r"[0-9a-z]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """What GetImageSet says of an image set; the times are aware UTC, None where it leaves them out."""

    version: int
    created_at: datetime | None
    updated_at: datetime | None
    is_deleted: bool = False


class Source:
    """One data store, read within the quota. Thread-safe.

    Args:
        datastore_id: The data store.
        client: boto3's client, or one that answers like it.
        executor: Makes its requests.
    """

    def __init__(self, datastore_id: str, client: Any, executor: RequestExecutor) -> None:
        self._id = datastore_id
        self._client = client
        self._executor = executor

    @property
    def spare_requests(self) -> int:
        """How many requests the quota would let out at once."""
        return self._executor.spare

    def page(self, search: Search, token: str | None, counts: RequestCounts) -> Page:
        """One page of a search.

        Args:
            search: What to ask for.
            token: The page token of the page before; None for the first page.
            counts: Counts the requests made.

        Raises:
            InvalidRequestError: The page token, or the filter, is not accepted.
            SourceError: The service refuses, or failed so often that the run gives up.
            StoppedError: The run was asked to stop.
        """
        request: dict[str, Any] = {"maxResults": PAGE_ROWS, "searchCriteria": search.criteria()}
        if token is not None:
            request["nextToken"] = token

        def send() -> Page:
            answer = self._client.search_image_sets(datastoreId=self._id, **request)
            return read_page(raw_body(answer), _served_at(answer))

        return self._executor.call("SearchImageSets", send, counts)

    def created_at(self, counts: RequestCounts) -> tuple[datetime, datetime]:
        """When the data store was created, cut to the second, and the service's clock; both aware UTC."""

        def send() -> tuple[datetime, datetime]:
            answer = self._client.get_datastore(datastoreId=self._id)
            return floor_second(_field(answer.get("datastoreProperties", {}), "createdAt")), _served_at(answer)

        return self._executor.call("GetDatastore", send, counts)

    def clock(self, counts: RequestCounts) -> datetime:
        """The service's clock, aware UTC, cut to the second, for callers who may not call GetDatastore."""

        def send() -> datetime:
            return _served_at(self._client.search_image_sets(datastoreId=self._id, maxResults=1))

        return self._executor.call("SearchImageSets", send, counts)

    def look_up(self, image_set_id: str, counts: RequestCounts) -> ImageSet | None:
        """What the service itself, not its search, says of an image set now.

        Returns:
            None where the service confirms that there is none: not found, state DELETED, or no id of its form.
        """
        found = self.look_up_any(image_set_id, counts)
        return None if found is None or found.is_deleted else found

    def look_up_any(self, image_set_id: str, counts: RequestCounts) -> ImageSet | None:
        """The same, of a deleted image set too, as far as the service still knows it."""
        if not _IMAGE_SET_ID.fullmatch(image_set_id):
            return None

        def send() -> ImageSet | None:
            try:
                answer = self._client.get_image_set(datastoreId=self._id, imageSetId=image_set_id)
            except botocore.exceptions.ClientError as error:
                if is_not_found(error):
                    return None
                raise
            is_deleted = _field(answer, "imageSetState") == "DELETED"
            created, updated = answer.get("createdAt"), answer.get("updatedAt")
            return ImageSet(
                version=0 if is_deleted else int(_field(answer, "versionId")),
                created_at=created.astimezone(UTC) if created else None,
                updated_at=updated.astimezone(UTC) if updated else None,
                is_deleted=is_deleted,
            )

        return self._executor.call("GetImageSet", send, counts)


@dataclass(frozen=True, slots=True)
class Connection:
    """What all data stores in a process share: boto3's client and the quota.

    Attributes:
        client: Thread-safe.
        limiter: Of every request but those of metadata, whatever data store it is for.
        metadata_limiter: Of GetImageSetMetadata, which has a quota of its own.
    """

    client: Any
    limiter: Limiter
    metadata_limiter: Limiter


def connect(settings: Settings) -> Connection:
    """The connection of a flow's process, for the region, credentials and endpoint that boto3 finds.

    The whole quota is its own, or a tenth of it where the workers of a cluster scan.

    Raises:
        UsageError: boto3 finds no region, or a profile that does not exist.
    """
    quota = settings.quota if settings.dask is None else settings.quota.part(FLOW_SHARE)
    connections = settings.workers + settings.metadata.quota.workers + _CONFIRMING
    client = make_client(connections=connections, allow_http=settings.allow_http)
    return Connection(client, Limiter(quota), Limiter(settings.metadata.quota))


def open_source(settings: Settings, stop: threading.Event, connection: Connection | None = None) -> Source:
    """The data store of the settings.

    Args:
        settings: Of the run.
        stop: Set when the run is asked to stop.
        connection: That other data stores share; None: one of its own.
    """
    shared = connection or connect(settings)
    return Source(settings.datastore_id, shared.client, _executor(settings, shared.limiter, stop))


def open_metadata_source(settings: Settings, stop: threading.Event, connection: Connection) -> MetadataSource:
    """The metadata of the settings' data store.

    Args:
        settings: Of the run.
        stop: Set when the run is asked to stop.
        connection: To the service.
    """
    executor = _executor(settings, connection.metadata_limiter, stop)
    return MetadataSource(settings.datastore_id, connection.client, executor)


def _executor(settings: Settings, limiter: Limiter, stop: threading.Event) -> RequestExecutor:
    return RequestExecutor(limiter, stop=stop, max_attempts=settings.max_attempts, backoff=BACKOFF)


def list_datastores(settings: Settings, stop: threading.Event, connection: Connection) -> list[str]:
    """The ids of the account's active data stores in the region, sorted.

    Args:
        settings: How often a request is tried.
        stop: Set when the run is asked to stop.
        connection: To the service.

    Raises:
        SourceError: The service refuses, or failed so often that the run gives up.
        StoppedError: The run was asked to stop.
    """
    executor = _executor(settings, connection.limiter, stop)
    found: set[str] = set()
    token: str | None = None
    while True:
        request = {"datastoreStatus": _ACTIVE} | ({} if token is None else {"nextToken": token})
        answer = executor.call("ListDatastores", partial(connection.client.list_datastores, **request), RequestCounts())
        found |= {its["datastoreId"] for its in answer["datastoreSummaries"] if its["datastoreStatus"] == _ACTIVE}
        token = answer.get("nextToken")
        if token is None:
            return sorted(found)


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
