"""The faulty road to S3 does what is ordered, and nothing else."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

from tests.support.s3_orders import FAULTS, Pretend, Request
from tests.support.s3_proxy import S3Proxy
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

BUCKET = "catalogs"


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[S3Proxy]:
    with S3Proxy(s3_server.endpoint, ACCESS_KEY, SECRET_KEY) as running:
        yield running


class Client:
    """Puts and gets one object through the proxy, and says what was answered."""

    def __init__(self, proxy: S3Proxy, key: str, *, patience: float) -> None:
        self.key = key
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=proxy.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                read_timeout=patience,
                connect_timeout=5,
            ),
        )

    def put(self, body: bytes, **condition: str) -> str:
        return self._said(lambda: self._client.put_object(Bucket=BUCKET, Key=self.key, Body=body, **condition)["ETag"])

    def request_of(self, body: bytes) -> tuple[bytes, bytes]:
        """The head and the body of a put, as they go out."""
        sent: list[Any] = []
        self._client.meta.events.register("before-send.s3.PutObject", lambda request, **_: sent.append(request))
        self.put(body)
        lines = [f"PUT {urlsplit(sent[0].url).path} HTTP/1.1", f"Host: {urlsplit(sent[0].url).netloc}"]
        for name, value in sent[0].headers.items():
            if name != "Expect":
                lines.append(f"{name}: {value.decode() if isinstance(value, bytes) else value}")
        return "\r\n".join([*lines, "", ""]).encode(), body

    def get(self) -> str:
        return self._said(lambda: self._client.get_object(Bucket=BUCKET, Key=self.key)["Body"].read().decode())

    def list(self) -> str:
        return self._said(lambda: self._client.list_objects_v2(Bucket=BUCKET, Prefix=self.key)["KeyCount"])

    def _said(self, call: Any) -> str:
        try:
            return str(call())
        except botocore.exceptions.ClientError as error:
            return str(error.response["Error"]["Code"])
        except Exception as error:  # noqa: BLE001  # the kind of failure is what is looked at
            return type(error).__name__
        finally:
            # A connection that a fault has cut may look alive to the next request.
            self._client.close()


@pytest.fixture
def client(proxy: S3Proxy, request: pytest.FixtureRequest) -> Client:
    # Where an answer is held back, the client is to give up soon; else only a slow machine would have it do so.
    patience = 0.3 if any(kind in request.node.name for kind in ("stall", "late_answer")) else 30
    return Client(proxy, f"proxy/{request.node.name}".replace("[", "-").rstrip("]"), patience=patience)


def test_requests_pass_as_they_came(client: Client, proxy: S3Proxy) -> None:
    """Without orders the store is the real one: conditions hold, absent objects are absent."""
    first = client.put(b"one", IfNoneMatch="*")
    assert first.startswith('"')
    assert client.put(b"two", IfNoneMatch="*") == "PreconditionFailed"
    assert client.put(b"two", IfMatch=first).startswith('"')
    assert client.put(b"three", IfMatch=first) == "PreconditionFailed"
    assert (client.get(), client.list()) == ("two", "1")
    assert proxy.requests == {"PUT": 4, "GET": 1, "LIST": 1}
    assert not proxy.served


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_served_once_and_is_applied_or_not(kind: str, client: Client, proxy: S3Proxy) -> None:
    """Each kind answers what its name says, and the object is written or not accordingly."""
    client.put(b"old")
    proxy.order(kind, method="PUT")
    said = client.put(b"new")
    assert not said.startswith('"') or FAULTS[kind].delivery == "cut"
    assert client.get() == ("new" if FAULTS[kind].is_applied else "old")
    assert proxy.served == {kind: 1}


def test_a_read_and_a_list_can_be_spoilt(client: Client, proxy: S3Proxy) -> None:
    """Half a body and a body that is no XML arrive as such."""
    client.put(b"whole body")
    proxy.order("cut", method="GET")
    assert client.get() in {"IncompleteReadError", "ResponseStreamingError"}
    proxy.order("garble", method="LIST")
    # botocore makes a server error of a list that is no XML.
    assert client.list() == "500"
    assert (client.get(), client.list()) == ("whole body", "1")


def test_orders_choose_by_number_since_chance_and_predicate(client: Client, proxy: S3Proxy) -> None:
    """The second and fourth; all from the third on; a seeded share; only puts that are conditional."""
    codes = {"slow_down": "SlowDown", "internal": "InternalError"}
    proxy.order("slow_down", method="GET", at=[2, 4])
    client.put(b"x")
    assert [client.get() for _ in range(4)] == ["x", codes["slow_down"], "x", codes["slow_down"]]
    proxy.clear()
    proxy.order("expired", since=3)
    assert [client.get() for _ in range(4)] == ["x", "x", "ExpiredToken", "ExpiredToken"]
    drawn = []
    for _ in range(2):
        proxy.clear()
        proxy.order("internal", chance=0.5, seed=4)
        drawn.append([client.get() for _ in range(12)])
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {"x", codes["internal"]}
    proxy.clear()
    proxy.order("conflict", conditional=True)
    assert client.put(b"y").startswith('"')
    assert client.put(b"z", IfNoneMatch="*") == "ConditionalRequestConflict"


def test_calls_come_before_and_after_a_put_is_applied(client: Client, proxy: S3Proxy) -> None:
    """A test can look at the store, or end a client, exactly on either side of a put."""
    client.put(b"old")
    seen: list[tuple[str, str | None]] = []

    def look(request: Request) -> None:
        seen.append((client.get(), request.condition))

    proxy.call("before", look, method="PUT")
    proxy.call("after", look, method="PUT", key=client.key)
    client.put(b"new", IfMatch=client.put(b"older"))
    assert seen == [("old", None), ("older", None), ("older", "if-match"), ("new", "if-match")]


@pytest.mark.parametrize("sent", [0, 4])
def test_a_put_that_breaks_off_is_not_applied(client: Client, proxy: S3Proxy, sent: int) -> None:
    """What a client has sent that is killed in the middle of a put reaches no store, which may take it for whole."""
    head, body = client.request_of(b"new and longer")
    client.put(b"old")
    with socket.create_connection(("127.0.0.1", urlsplit(proxy.endpoint).port or 0)) as connection:
        connection.sendall(head + body[:sent])
        connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            assert not connection.recv(1)
    assert client.get() == "old"


@pytest.mark.parametrize(
    ("pretend", "creates_over", "replaces_another"),
    [
        (Pretend(), False, False),
        (Pretend(ignore_if_match=True), False, True),
        (Pretend(ignore_if_none_match=True), True, False),
        (Pretend(ignore_if_match=True, ignore_if_none_match=True), True, True),
        (Pretend(two_winners=1.0), True, True),
    ],
    ids=str,
)
def test_stores_that_pretend(
    pretend: Pretend, *, creates_over: bool, replaces_another: bool, client: Client, proxy: S3Proxy
) -> None:
    """A condition that is forgotten is forgotten whole; the other kind still holds."""
    proxy.pretend = pretend
    first = client.put(b"one")
    client.put(b"two", IfMatch=first)
    assert client.put(b"three", IfNoneMatch="*").startswith('"') is creates_over
    assert client.put(b"four", IfMatch=first).startswith('"') is replaces_another


def test_a_store_that_wants_its_etags_bare(client: Client, proxy: S3Proxy) -> None:
    """If-Match with quotes never holds; without them it does, and only for the right object."""
    proxy.pretend = Pretend(unquoted_only=True)
    first = client.put(b"one")
    assert client.put(b"two", IfMatch=first) == "PreconditionFailed"
    assert client.put(b"two", IfMatch=first.strip('"')).startswith('"')
    assert client.put(b"three", IfMatch=first.strip('"')) == "PreconditionFailed"
