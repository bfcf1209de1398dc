"""GetImageSetMetadata: some image sets read one after the other, within a quota of its own.

Reading metadata counts as access, and moves an archived image set back to the frequent tier: whoever asks decides
what is read (pipeline/metadata.py).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import botocore.exceptions
import pyarrow as pa

from ahi_catalog.connectors.errors import NotReadyError, StoppedError
from ahi_catalog.connectors.healthimaging.executor import RequestCounts, RequestExecutor
from ahi_catalog.connectors.healthimaging.failures import METADATA, is_not_found, is_not_ready
from ahi_catalog.connectors.windows import SECOND, Window, floor_second
from ahi_catalog.schemas import INSTANCES, SERIES, Protect, Table
from ahi_catalog.schemas.decoding.metadata import MalformedMetadataError, Metadata, Origin, read_metadata, to_table

_CHUNK_BYTES: Final = 64 << 10
_MALFORMED_TRIES: Final = 3
"""Answers of an image set that are no metadata, after which it is left out: a proxy's error page passes."""
_NOT_READY_TRIES: Final = 6
"""Answers of an image set that it is not consistent yet, some seconds apart, after which it is left to the next run:
after an import there may be thousands of them."""


class Left(StrEnum):
    """Why an image set was not read; those in the archive, or perhaps there, are not asked for."""

    ARCHIVED = "archived"
    GONE = "gone"
    NOT_READY = "not ready"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataRequest:
    """Image sets of one partition to read.

    Attributes:
        origins: The image sets, at least one.
        keywords: Of the column `attributes`, each with its VR.
        with_instances: Whether rows of `instances` are wanted too.
    """

    origins: tuple[Origin, ...]
    keywords: tuple[tuple[str, str], ...] = ()
    with_instances: bool = False

    @property
    def by(self) -> str:
        """What is read, for who shows it."""
        return "metadata"

    @property
    def window(self) -> Window:
        """When the image sets were created."""
        moments = [origin.created_at for origin in self.origins]
        return Window(floor_second(min(moments)), floor_second(max(moments)) + SECOND)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataResult:
    """What reading came to.

    Attributes:
        rows: Of `series` and, if they were asked for, of `instances`; under the catalog's PHI policy.
        read: Image sets that were read.
        left: Image sets that were not, by the reason; those that a stop left out are in neither.
        counts: Requests made.
    """

    rows: Mapping[str, pa.Table] = field(repr=False)
    read: int
    left: Mapping[Left, int]
    counts: RequestCounts


class MetadataSource:
    """The metadata of one data store's image sets. Thread-safe.

    Args:
        datastore_id: The data store.
        client: boto3's client, or one that answers like it.
        executor: Makes its requests, within the quota of this operation.
    """

    def __init__(self, datastore_id: str, client: Any, executor: RequestExecutor) -> None:
        self._id = datastore_id
        self._client = client
        self._executor = executor

    def read(self, origin: Origin, request: MetadataRequest, counts: RequestCounts) -> Metadata | Left:
        """What the metadata of an image set says, or why there is none.

        Raises:
            SourceError: The service refuses, or failed so often that the run gives up.
            StoppedError: The run was asked to stop.
        """
        keywords = MappingProxyType(dict(request.keywords))
        asked = {"datastoreId": self._id, "imageSetId": origin.image_set_id}
        if origin.version is not None:
            asked["versionId"] = str(origin.version)
        malformed = not_ready = 0

        def send() -> Metadata | Left:
            nonlocal malformed, not_ready
            try:
                answer = self._client.get_image_set_metadata(**asked)
                with closing(answer["imageSetMetadataBlob"]) as body:
                    pieces: Iterator[bytes] = body.iter_chunks(_CHUNK_BYTES)
                    return read_metadata(pieces, origin, keywords, with_instances=request.with_instances)
            except MalformedMetadataError:
                malformed += 1
                if malformed < _MALFORMED_TRIES:
                    raise
                return Left.MALFORMED
            except botocore.exceptions.ClientError as error:
                if is_not_found(error):
                    return Left.GONE
                not_ready += is_not_ready(error)
                if not_ready < _NOT_READY_TRIES:
                    raise
                return Left.NOT_READY

        try:
            return self._executor.call(METADATA, send, counts)
        except NotReadyError:
            return Left.NOT_READY


def read_all(
    source: MetadataSource,
    request: MetadataRequest,
    protect: Callable[[Table], Protect],
    is_stopping: Callable[[], bool] = lambda: False,
) -> MetadataResult:
    """Read image sets one after the other.

    Args:
        source: What to read from.
        request: What to read.
        protect: Of a table, what puts its rows under the catalog's PHI policy; no row leaves without it.
        is_stopping: Whether the run was asked to stop; looked at between image sets.

    Raises:
        SourceError: The service refuses, or failed so often that the run gives up.
    """
    counts = RequestCounts()
    left: dict[Left, int] = {}
    series: list[dict[str, Any]] = []
    instances = [INSTANCES.schema.empty_table()]
    read = 0
    for origin in request.origins:
        if is_stopping():
            break
        try:
            found = source.read(origin, request, counts)
        except StoppedError:
            break
        if isinstance(found, Left):
            left[found] = left.get(found, 0) + 1
            continue
        read += 1
        series += found.series
        instances.append(found.instances)
    rows = {SERIES.name: protect(SERIES)(to_table(series))}
    if request.with_instances:
        rows[INSTANCES.name] = protect(INSTANCES)(pa.concat_tables(instances))
    return MetadataResult(rows=rows, read=read, left=left, counts=counts)
