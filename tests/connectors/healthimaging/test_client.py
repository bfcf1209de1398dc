"""Our client against boto3's own, over HTTP: the same pages, the same refusals, a signature on every request."""

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import botocore.auth
import botocore.session
import msgspec
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import ensure_bytes
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

from ahi_catalog.connectors import aws
from ahi_catalog.connectors.healthimaging.client import _REMEMBERED, Client, make_client, raw_body
from ahi_catalog.connectors.healthimaging.pages import Field, Search
from ahi_catalog.connectors.windows import Window
from ahi_catalog.emulator import Emulator, Service, ServiceOptions

START = datetime(2026, 4, 1, 8, 30, tzinfo=UTC)
ROWS = 230
SECRET = "good-secret"
SEARCHES = [Search(field, Window(START, START + timedelta(hours=hours))) for field in Field for hours in (1, 2)]


@pytest.fixture
def service() -> Service:
    """A service with five pages of image sets."""
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
def client(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Ours, with credentials of its own."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", emulator.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDGOOD")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return make_client(connections=2)


@pytest.fixture
def sent(client: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests that our client sends from now on."""

    def send_and_keep(request: Any) -> Any:
        kept.append(request)
        return send(request)

    kept: list[Any] = []
    session = client._client._endpoint.http_session
    send = session.send
    monkeypatch.setattr(session, "send", send_and_keep)
    return kept


def is_signed(request: Any, secret: str) -> bool:
    """Whether a request bears the signature that botocore makes for its content, its time and this secret key."""
    form = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=AKIDGOOD/.*, SignedHeaders=(.*), Signature=(.*)",
        text(request.headers["Authorization"]),
    )
    assert form
    headers = {name: request.headers.get(name, urlsplit(request.url).netloc) for name in form[1].split(";")}
    again = AWSRequest(request.method, request.url, {n: text(v) for n, v in headers.items()}, request.body)
    again.context["timestamp"] = text(request.headers["X-Amz-Date"])
    auth: Any = SigV4Auth(Credentials("AKIDGOOD", secret), "medical-imaging", "us-east-1")
    return bool(form[2] == auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again))


def text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def boto3s_own() -> Any:
    return aws.make_client("medical-imaging", for_custom_endpoint=Config(inject_host_prefix=False))


def request(store: str, search: Search, token: str | None = None) -> dict[str, Any]:
    asked = {"datastoreId": store, "maxResults": 50, "searchCriteria": search.criteria()}
    return asked if token is None else asked | {"nextToken": token}


def pages(client: Client, store: str, search: Search) -> Iterator[dict[str, Any]]:
    """The pages of a search, as our client brings them."""
    token = None
    while True:
        page = msgspec.json.decode(raw_body(client.search_image_sets(**request(store, search, token))))
        yield page
        if (token := page.get("nextToken")) is None:
            return


@pytest.mark.parametrize("search", SEARCHES)
def test_pages_are_those_of_botocore(client: Client, store: str, search: Search) -> None:
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


def test_searches_do_not_get_mixed_up(client: Client, store: str) -> None:
    """Their pages asked for in turn, more of them than are remembered: each goes on with its own request."""
    many = [Search(Field.CREATED_AT, Window(START, START + timedelta(hours=h))) for h in range(1, _REMEMBERED + 2)]
    under_way = [pages(client, store, search) for search in (*SEARCHES, *many[:2])]
    found = [[page] for page in map(next, under_way)]
    for search in many[2:]:
        next(pages(client, store, search))
    found = [[*first, *rest] for first, rest in zip(found, under_way, strict=True)]
    numbers = [[int(row["imageSetId"], 16) for p in got for row in p["imageSetsMetadataSummaries"]] for got in found]
    assert numbers == [list(range(ROWS))] * len(found)


@pytest.mark.parametrize("kind", ["throttle", "500", "503", "access_denied", "expired_token", "reset"])
def test_failures_are_those_of_botocore(client: Client, store: str, service: Service, kind: str) -> None:
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


def test_a_token_that_is_none_is_refused(client: Client, store: str) -> None:
    """The walk begins again where it meets this one."""
    next(pages(client, store, SEARCHES[0]))
    with pytest.raises(ClientError) as refused:
        client.search_image_sets(**request(store, SEARCHES[0], "none"))
    assert aws.error_code(refused.value) == "ValidationException"


def test_a_repeated_request_is_what_boto3_would_send(client: Any, store: str, sent: list[Any]) -> None:
    """Method, address, body, headers and what it is signed for; but for the headers in which boto3 counts its tries."""

    def scope(sent: Any) -> str:
        [credential] = re.findall("Credential=[^,]*", str(sent.headers["Authorization"]))
        return str(credential)

    token = next(pages(client, store, SEARCHES[0]))["nextToken"]
    for asked in (client, client._client):
        asked.search_image_sets(**request(store, SEARCHES[0], token))

    _, ours, theirs = sent
    assert (ours.method, ours.url, ours.body) == (theirs.method, theirs.url, theirs.body)
    assert scope(ours) == scope(theirs)
    assert {*ours.headers} == {name for name in theirs.headers if not name.startswith("amz-sdk-")}
    for name in {*ours.headers} - {"Authorization", "X-Amz-Date"}:
        assert ensure_bytes(ours.headers[name]) == ensure_bytes(theirs.headers[name])


def test_the_service_asks_for_no_signature_of_another_kind(client: Any, store: str) -> None:
    """Its rules and operations may name a scheme, a region or a name to sign for; repeating would have to heed them."""
    rules = botocore.session.get_session().get_component("data_loader")
    assert "authSchemes" not in str(rules.load_service_model("medical-imaging", "endpoint-rule-set-1"))
    assert "authSchemes" in str(rules.load_service_model("s3", "endpoint-rule-set-1"))
    next(pages(client, store, SEARCHES[0]))
    [made] = client._requests.values()
    assert made["context"]["auth_type"] in (None, "v4")
    assert "signing" not in made["context"]


def test_requests_side_by_side_are_signed_each_with_its_own_time(
    client: Client, store: str, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is made while another is being signed, a second later, leaves the other's time alone."""
    asked = request(store, SEARCHES[0], next(pages(client, store, SEARCHES[0]))["nextToken"])
    now = datetime.now(UTC)
    clock = itertools.count()
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: now + timedelta(seconds=next(clock)))
    sign = SigV4Auth.string_to_sign
    amid: list[Any] = []

    def ask_amid(auth: SigV4Auth, *given: Any) -> str:
        if not amid:
            amid.append(None)
            amid[0] = client.search_image_sets(**asked)
        return str(sign(auth, *given))

    monkeypatch.setattr(SigV4Auth, "string_to_sign", ask_amid)
    answers = [msgspec.json.decode(raw_body(answer)) for answer in (client.search_image_sets(**asked), *amid)]
    assert answers[0]["imageSetsMetadataSummaries"] == answers[1]["imageSetsMetadataSummaries"]
    assert len({text(each.headers["X-Amz-Date"]) for each in sent[1:]}) == len(sent[1:]) == 2
    assert all(is_signed(each, SECRET) for each in sent)


def test_each_page_is_signed_with_the_credentials_of_the_moment(
    client: Any, store: str, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials that are renewed in the middle of a search sign its next page."""
    token = next(pages(client, store, SEARCHES[0]))["nextToken"]
    credentials = client._client._request_signer._credentials
    for secret in ("renewed", SECRET):
        monkeypatch.setattr(credentials, "secret_key", secret)
        client.search_image_sets(**request(store, SEARCHES[0], token))
        assert is_signed(sent[-1], secret)
    assert not is_signed(sent[-2], SECRET)
