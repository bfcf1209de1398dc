"""HealthImaging: the data store, the permission for each operation, and the clock. No image set is read.

IAM decides before the service looks: a search of the first second of 1970 and an image set that cannot exist tell
of permissions as well as real ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import botocore.exceptions

from ahi_catalog.connectors.aws_failures import UNANSWERED
from ahi_catalog.connectors.errors import InvalidRequestError, SourceError, ThrottledError
from ahi_catalog.connectors.healthimaging.failures import is_not_found, translate
from ahi_catalog.connectors.healthimaging.pages import Field, Search
from ahi_catalog.connectors.windows import SECOND, Window
from ahi_catalog.doctor.check import Check, fix, note, ok

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING: Final = Search(Field.CREATED_AT, Window(_EPOCH + SECOND, _EPOCH + 2 * SECOND))
_NOBODY: Final = "0" * 32
_DENIED: Final = "AccessDeniedException"
_SKEW: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the service said to one call.

    Attributes:
        answer: Where it was answered.
        failure: Where it was not, in our words.
        is_denied, is_absent: Whether the failure is a missing permission, or a missing thing.
        skew: The service's clock less this machine's, where an answer came with a Date.
    """

    answer: dict[str, Any] | None = None
    failure: SourceError | None = None
    is_denied: bool = False
    is_absent: bool = False
    skew: timedelta | None = None


def ask(call: Callable[..., dict[str, Any]], operation: str, clock: Callable[[], datetime], **request: Any) -> Reply:
    """One call, once."""
    try:
        answer = call(**request)
    except botocore.exceptions.ClientError as error:
        return Reply(
            failure=translate(error, operation),
            is_denied=error.response.get("Error", {}).get("Code") == _DENIED,
            is_absent=is_not_found(error),
            skew=_skew(error.response, clock()),
        )
    except UNANSWERED as error:
        return Reply(failure=translate(error, operation))
    return Reply(answer=answer, skew=_skew(answer, clock()))


def check_datastore(reply: Reply) -> Check:
    """Whether the data store is there and active.

    Args:
        reply: To GetDatastore.
    """
    name = "data store"
    if reply.is_denied:
        return note(name, "not to be seen: allow medical-imaging:GetDatastore, or give the first sync a `start`")
    if reply.answer is None:
        return fix(name, str(reply.failure))
    properties = reply.answer.get("datastoreProperties", {})
    status, created = properties.get("datastoreStatus"), properties.get("createdAt")
    if status != "ACTIVE":
        return fix(name, f"its status is {status}, not ACTIVE: check the data store id")
    return ok(name, f"active, created {created:%Y-%m-%d}" if created else "active")


def check_search(reply: Reply) -> Check:
    """Whether image sets may be listed.

    Args:
        reply: To SearchImageSets for a second of 1970.
    """
    if isinstance(reply.failure, ThrottledError):
        return note("SearchImageSets", "allowed, but throttled now: others use the quota, lower `rate`")
    if isinstance(reply.failure, InvalidRequestError):
        return fix("SearchImageSets", "the service refuses a filter on createdAt, which every sync needs")
    return _permission("SearchImageSets", reply)


def check_get(reply: Reply) -> Check:
    """Whether the service may be asked if an image set is gone.

    Args:
        reply: To GetImageSet for one that cannot exist.
    """
    if reply.is_absent or isinstance(reply.failure, ThrottledError):
        return ok("GetImageSet", "allowed")
    return _permission("GetImageSet", reply)


def check_clock(replies: list[Reply]) -> Check:
    """Whether this machine's clock agrees with the service's.

    Args:
        replies: Of the service, refusals too.
    """
    name = "clock"
    skews = [reply.skew for reply in replies if reply.skew is not None]
    if not skews:
        return note(name, "not compared: the service has not told its time")
    skew = min(skews, key=abs)
    if abs(skew) < _SKEW:
        return ok(name, "agrees with the service's, to the minute")
    off = timedelta(seconds=round(abs(skew).total_seconds()))
    where = "behind" if skew > timedelta() else "ahead of"
    return fix(name, f"{off} {where} the service's: set it (NTP); AWS refuses requests 5 minutes off")


def ask_everything(client: Any, datastore_id: str, clock: Callable[[], datetime]) -> tuple[Reply, Reply, Reply]:
    """The replies to GetDatastore, SearchImageSets and GetImageSet."""
    search = {"maxResults": 1, "searchCriteria": _NOTHING.criteria()}
    return (
        ask(client.get_datastore, "GetDatastore", clock, datastoreId=datastore_id),
        ask(client.search_image_sets, "SearchImageSets", clock, datastoreId=datastore_id, **search),
        ask(client.get_image_set, "GetImageSet", clock, datastoreId=datastore_id, imageSetId=_NOBODY),
    )


def _permission(name: str, reply: Reply) -> Check:
    return ok(name, "allowed") if reply.answer is not None else fix(name, str(reply.failure))


def _skew(answer: Mapping[str, Any], now: datetime) -> timedelta | None:
    header = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return parsedate_to_datetime(header) - now
    except (TypeError, ValueError):
        return None
