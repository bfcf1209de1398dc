"""Requests to the data store: each within the quota, retried where it may help, and stopped when asked."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.exceptions as boto
import pytest

from ahi_catalog.connectors.errors import SourceError, StoppedError, ThrottledError, TransientError
from ahi_catalog.connectors.healthimaging.executor import RequestCounts, RequestExecutor
from ahi_catalog.connectors.healthimaging.limiter import Limiter
from ahi_catalog.connectors.healthimaging.pages import Field, Search
from ahi_catalog.connectors.healthimaging.source import Connection, ImageSet, Source, list_datastores
from ahi_catalog.connectors.settings import Quota, Settings
from ahi_catalog.connectors.windows import Window
from ahi_catalog.schemas import flatten

ID = "0" * 32
AT = datetime(2024, 2, 29, 12, tzinfo=UTC)
SEARCH = Search(Field.CREATED_AT, Window(AT, AT + timedelta(days=1)))
METADATA = {"HTTPHeaders": {"date": "Thu, 29 Feb 2024 12:00:07 GMT"}}
PAGE = b'{"imageSetsMetadataSummaries": [{"imageSetId": "x", "createdAt": 1.5}]}'


def failure(code: str, status: int) -> boto.ClientError:
    return boto.ClientError(
        {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "X",
    )


THROTTLED = failure("ThrottlingException", 429)
INTERNAL = failure("InternalServerException", 500)
MISSING = failure("ResourceNotFoundException", 404)


class Script:
    """A client, in the shape of boto3's, that gives the answers of a script in turn.

    Attributes:
        answers: What each request meets: an error to raise, a body of SearchImageSets, or an answer.
        asked: The requests made.
    """

    def __init__(self, *answers: Exception | bytes | dict[str, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def search_image_sets(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        match self.answers.pop(0):
            case Exception() as error:
                raise error
            case bytes() as body:
                return {"RawBody": body, "ResponseMetadata": METADATA}
            case answer:
                return {"ResponseMetadata": METADATA, **answer}

    get_image_set = get_image_set_metadata = get_datastore = list_datastores = search_image_sets


def make(
    client: Script, stop: threading.Event | None = None, on_backoff: Callable[[], None] = lambda: None
) -> tuple[Source, Limiter]:
    def backoff(_: int) -> float:
        on_backoff()
        return 0

    stop = stop or threading.Event()
    limiter = Limiter(Quota(rate=1e6, burst=100), clock=lambda: 0.0)
    return Source(ID, client, RequestExecutor(limiter, stop=stop, max_attempts=4, backoff=backoff)), limiter


def test_what_may_pass_is_tried_again_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Throttling, server errors, dropped connections and half pages cost a retry; the page comes in the end.

    What failed is logged with the number of the try, but for throttling.
    """
    client = Script(THROTTLED, INTERNAL, PAGE[:-2], PAGE)
    source, limiter = make(client)
    counts = RequestCounts()
    page = source.page(SEARCH, "t", counts)
    assert (page.ids, page.served_at) == (("x",), AT + timedelta(seconds=7))
    assert flatten([page.rows])["image_set_id"].to_pylist() == ["x"]
    assert (counts.requests, counts.throttles, counts.retries) == (4, 1, 2)
    assert not limiter.spare  # and the limiter was told: what was left of the burst is gone
    assert {request["nextToken"] for request in client.asked} == {"t"}
    assert client.asked[0]["maxResults"] == 50
    said = [record.getMessage().partition("; that was ")[2] for record in caplog.records]
    assert said == ["try 2, the next in 0.0 s", "try 3, the next in 0.0 s"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (THROTTLED, ThrottledError),
        (INTERNAL, TransientError),
        (boto.ConnectionClosedError(endpoint_url="x"), TransientError),
    ],
)
def test_after_so_many_tries_the_last_failure_is_raised(error: Exception, kind: type[SourceError]) -> None:
    """The run ends with what was wrong, not with a word about retries; and no error of boto3 hangs on to it."""
    client = Script(*[error] * 9)
    with pytest.raises(kind) as caught:
        make(client)[0].page(SEARCH, None, RequestCounts())
    assert len(client.asked) == 4
    assert caught.value.__cause__ is None
    assert not isinstance(caught.value.__context__, boto.ClientError | boto.BotoCoreError)


@pytest.mark.parametrize(
    "error",
    [failure("AccessDeniedException", 403), failure("ValidationException", 400), MISSING, boto.NoCredentialsError()],
)
def test_what_no_retry_mends_is_raised_at_once(error: Exception) -> None:
    """One request, one error."""
    client = Script(error, PAGE)
    with pytest.raises(SourceError) as caught:
        make(client)[0].page(SEARCH, None, RequestCounts())
    assert not isinstance(caught.value, TransientError)
    assert len(client.asked) == 1


def test_a_stop_ends_the_retries() -> None:
    """Asked to stop while it waits to try again, the source asks no more."""
    stop = threading.Event()
    client = Script(INTERNAL, PAGE)
    with pytest.raises(StoppedError):
        make(client, stop, on_backoff=stop.set)[0].page(SEARCH, None, RequestCounts())
    assert len(client.asked) == 1


@pytest.mark.parametrize(
    ("answers", "is_gone"),
    [
        ([MISSING], True),
        ([{"imageSetState": "DELETED"}], True),
        ([{"imageSetState": "ACTIVE", "versionId": "1"}], False),
        ([{"imageSetState": "LOCKED", "versionId": "2"}], False),
        ([INTERNAL, {}, {"imageSetState": "ACTIVE"}, MISSING], True),
    ],
)
def test_only_the_service_says_that_an_image_set_is_gone(answers: list[Any], *, is_gone: bool) -> None:
    """Not found or DELETED is gone; an answer that says neither is asked for again."""
    client = Script(*answers)
    assert (make(client)[0].look_up(ID, RequestCounts()) is None) is is_gone
    assert not client.answers


def test_an_image_set_is_told_with_its_version_and_times_in_utc() -> None:
    """Whatever zone botocore puts them in; None where the service leaves them out."""
    local = datetime.fromisoformat("2024-01-01T01:00:00.9+01:00")
    client = Script(
        {"imageSetState": "ACTIVE", "versionId": "7", "createdAt": local, "updatedAt": local},
        {"imageSetState": "ACTIVE", "versionId": "7"},
    )
    source, _ = make(client)
    moment = datetime(2024, 1, 1, 0, 0, 0, 900_000, tzinfo=UTC)
    assert source.look_up(ID, RequestCounts()) == ImageSet(version=7, created_at=moment, updated_at=moment)
    assert source.look_up(ID, RequestCounts()) == ImageSet(version=7, created_at=None, updated_at=None)


@pytest.mark.parametrize("name", ["", "x", "../x", "A" * 32, "0" * 33, "0" * 31 + "/"])
def test_what_is_no_id_of_an_image_set_is_none_without_asking(name: str) -> None:
    """An id out of a foreign file never becomes part of a request's path."""
    client = Script()
    assert make(client)[0].look_up(name, RequestCounts()) is None
    assert client.asked == []


def test_no_permission_is_no_deletion() -> None:
    """Where GetImageSet is not allowed, nothing is confirmed, and the error says what to allow."""
    with pytest.raises(SourceError, match="GetImageSet"):
        make(Script(failure("AccessDeniedException", 403)))[0].look_up(ID, RequestCounts())


def test_the_data_stores_age_and_clock_come_in_utc() -> None:
    """Cut to the second, whatever zone botocore puts them in; an answer without them is asked for again."""
    local = datetime.fromisoformat("2024-01-01T01:00:00.9+01:00")
    source, _ = make(Script({}, {"datastoreProperties": {"createdAt": local}}))
    created, clock = source.created_at(RequestCounts())
    assert (created, clock) == (datetime(2024, 1, 1, tzinfo=UTC), AT + timedelta(seconds=7))
    assert created.tzinfo is UTC


def test_the_clock_needs_no_permission_of_its_own() -> None:
    """A search of one row tells the service's time."""
    client = Script({})
    assert make(client)[0].clock(RequestCounts()) == AT + timedelta(seconds=7)
    assert client.asked == [{"datastoreId": ID, "maxResults": 1}]


def test_data_stores_are_listed_page_by_page_and_only_the_active_ones() -> None:
    """Every page is asked for with the token of the one before, and a refusal is told."""

    def page(*stores: tuple[str, str], token: str | None = None) -> dict[str, Any]:
        summaries = [{"datastoreId": name, "datastoreStatus": status} for name, status in stores]
        return {"datastoreSummaries": summaries} | ({"nextToken": token} if token else {})

    script = Script(page(("b", "ACTIVE"), ("x", "DELETING"), token="more"), page(("a", "ACTIVE")))
    limiter = Limiter(Quota(rate=1_000, burst=10))
    settings = Settings(catalog="c", datastore_id=ID)
    assert list_datastores(settings, threading.Event(), Connection(script, limiter, limiter)) == ["a", "b"]
    assert script.asked == [{"datastoreStatus": "ACTIVE"}, {"datastoreStatus": "ACTIVE", "nextToken": "more"}]
    refused = Script(failure("AccessDeniedException", 403))
    with pytest.raises(SourceError, match="allow medical-imaging:ListDatastores"):
        list_datastores(settings, threading.Event(), Connection(refused, limiter, limiter))
