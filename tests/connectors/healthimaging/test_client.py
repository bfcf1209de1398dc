"""Our client against boto3's own, over HTTP: the same pages and the same refusals."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ahi_catalog.connectors import aws, aws_failures
from ahi_catalog.connectors.healthimaging.client import make_client, raw_body
from ahi_catalog.connectors.healthimaging.pages import Field, Search
from ahi_catalog.connectors.windows import Window
from ahi_catalog.emulator import Emulator, Service, ServiceOptions

START = datetime(2026, 4, 1, 8, 30, tzinfo=UTC)
ROWS = 230
SEARCHES = [Search(field, Window(START, START + timedelta(hours=hours))) for field in Field for hours in (1, 2)]


@pytest.fixture
def service() -> Service:
    """A service without a quota, with five pages of image sets."""
    return Service(ServiceOptions(rate=None))


@pytest.fixture
def store(service: Service) -> str:
    store = service.create_datastore(name="one", created_at=START)
    service.insert(
        store,
        (
            {
                "imageSetId": f"{number:032x}",
                "version": 1,
                "createdAt": START + timedelta(seconds=number, microseconds=123456),
                "updatedAt": START + timedelta(seconds=2 * number),
                "DICOMTags": {"DICOMPatientId": f"Müller {number % 5} <&>"},
            }
            for number in range(ROWS)
        ),
    )
    return store


@pytest.fixture
def emulator(service: Service) -> Iterator[Emulator]:
    with Emulator(service) as emulator:
        yield emulator


@pytest.fixture
def client(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ours."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", emulator.url)
    return make_client(connections=2)


def boto3s_own() -> Any:
    return aws.make_client("medical-imaging", adapt=lambda _: Config(inject_host_prefix=False))


def request(store: str, search: Search, token: str | None = None) -> dict[str, Any]:
    asked = {"datastoreId": store, "maxResults": 50, "searchCriteria": search.criteria()}
    return asked if token is None else asked | {"nextToken": token}


def pages(client: Any, store: str, search: Search) -> Iterator[dict[str, Any]]:
    """The pages of a search, as our client brings them."""
    token = None
    while True:
        page = msgspec.json.decode(raw_body(client.search_image_sets(**request(store, search, token))))
        yield page
        if (token := page.get("nextToken")) is None:
            return


@pytest.mark.parametrize("search", SEARCHES)
def test_pages_are_those_of_botocore(client: Any, store: str, search: Search) -> None:
    """What our bytes say is what boto3's paginator, with botocore's parser, makes of a client of its own."""
    ours = [row for page in pages(client, store, search) for row in page["imageSetsMetadataSummaries"]]
    theirs = [
        row
        for page in boto3s_own()
        .get_paginator("search_image_sets")
        .paginate(datastoreId=store, searchCriteria=search.criteria(), PaginationConfig={"PageSize": 50})
        for row in page["imageSetsMetadataSummaries"]
    ]
    assert len(ours) == ROWS
    for row in ours:
        for time in ("createdAt", "updatedAt"):
            row[time] = datetime.fromtimestamp(row[time], UTC)
    assert ours == theirs


@pytest.mark.parametrize("kind", ["throttle", "500", "503", "access_denied", "expired_token", "reset"])
def test_failures_are_those_of_botocore(client: Any, store: str, service: Service, kind: str) -> None:
    """A further page that fails raises what boto3's own client raises for it: kind, code, message, status."""
    token = next(pages(client, store, SEARCHES[0]))["nextToken"]
    service.faults.add(kind, next=2)
    failures = []
    for asked in (client, boto3s_own()):
        with pytest.raises((ClientError, BotoCoreError)) as failed:
            asked.search_image_sets(**request(store, SEARCHES[0], token))
        error = failed.value
        answer = error.response if isinstance(error, ClientError) else None
        failures.append((answer["Error"], answer["ResponseMetadata"]["HTTPStatusCode"]) if answer else type(error))
    ours, theirs = failures
    assert ours == theirs


def test_a_token_that_is_none_is_refused(client: Any, store: str) -> None:
    """The scan begins again where it meets this one."""
    next(pages(client, store, SEARCHES[0]))
    with pytest.raises(ClientError) as refused:
        client.search_image_sets(**request(store, SEARCHES[0], "none"))
    assert aws_failures.error_code(refused.value) == "ValidationException"
