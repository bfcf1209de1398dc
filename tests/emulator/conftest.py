"""A service on a clock that stands still, a server around it, and real boto3 clients."""

import http.client
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import boto3
import msgspec
import pytest
from botocore.config import Config

from ahi_catalog.emulator import Emulator, Service, ServiceOptions

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
START = datetime(2026, 4, 1, 8, 30, 0, 123456, tzinfo=UTC)


def image_set(number: int, **more: Any) -> dict[str, Any]:
    """A raw summary; later numbers are created later and were updated earlier."""
    return {
        "imageSetId": f"{number:032x}",
        "version": 1,
        "createdAt": START + timedelta(seconds=number),
        "updatedAt": NOON - timedelta(hours=1, seconds=number, microseconds=654321),
        "DICOMTags": {"DICOMPatientId": f"patient-{number % 5}", "DICOMStudyDate": f"202401{number % 28 + 1:02}"},
        "isPrimary": number % 2 == 0,
        **more,
    }


def signed_headers(service: str = "medical-imaging", region: str = "us-east-1") -> dict[str, str]:
    """The form of a signature, for requests made by hand."""
    return {
        "x-amz-date": "20260501T120000Z",
        "authorization": f"AWS4-HMAC-SHA256 Credential=AKID/20260501/{region}/{service}/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={'0' * 64}",
    }


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass(frozen=True, kw_only=True)
class Running:
    """One service behind a server, with ten image sets, and a client of it."""

    service: Service
    store: str
    url: str
    client: Any

    def search(self, token: str | None = None, size: int | None = None, **criteria: Any) -> dict[str, Any]:
        request: dict[str, Any] = {"datastoreId": self.store, "searchCriteria": criteria}
        if token is not None:
            request["nextToken"] = token
        if size is not None:
            request["maxResults"] = size
        answer: dict[str, Any] = self.client.search_image_sets(**request)
        return answer

    def numbers(self, **criteria: Any) -> list[int]:
        """The numbers of the image sets that a search finds, all pages of two, in order."""
        found: list[int] = []
        token: str | None = None
        while True:
            page = self.search(token, 2, **criteria)
            found += [int(row["imageSetId"], 16) for row in page["imageSetsMetadataSummaries"]]
            token = page.get("nextToken")
            if token is None:
                return found

    def http(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """A request by hand; `body` is sent as JSON unless it is bytes."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        raw = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        try:
            connection.request(method, path, raw, headers or {})
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(status=answer.status, headers=named, body=answer.read())
        finally:
            connection.close()

    def raw_search(self, body: Any = None, query: str = "", headers: dict[str, str] | None = None) -> Reply:
        path = f"/datastore/{self.store}/searchImageSets{query}"
        return self.http("POST", path, body, signed_headers() if headers is None else headers)


def make_client(url: str) -> Any:
    return boto3.client(
        "medical-imaging",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="AKID",
        aws_secret_access_key="loopback",
        config=Config(inject_host_prefix=False, retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=20),
    )


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers with the options given; the quota is off unless asked for, and the clock says noon."""
    with ExitStack() as stack:

        def run(*, count: int = 10, monotonic: Callable[[], float] | None = None, **options: Any) -> Running:
            settings = ServiceOptions(**{"rate": None, **options})
            more = {} if monotonic is None else {"monotonic": monotonic}
            service = Service(settings, clock=lambda: NOON, **more)
            store = service.create_datastore(name="test", created_at=START)
            service.insert(store, [image_set(number) for number in range(count)])
            emulator = stack.enter_context(Emulator(service))
            return Running(service=service, store=store, url=emulator.url, client=make_client(emulator.url))

        yield run


@pytest.fixture
def running(start: Start) -> Running:
    """A server with the defaults, the quota off."""
    return start()


@pytest.fixture
def summary() -> Callable[..., dict[str, Any]]:
    """Makes raw summaries."""
    return image_set


@pytest.fixture
def signed() -> Callable[..., dict[str, str]]:
    """Headers of a signature's form."""
    return signed_headers
