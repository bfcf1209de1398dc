"""S3's own ways to fail, on a real server: botocore's event hooks lose its answers, no part of ours is replaced."""

import io
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from urllib3.response import HTTPResponse

from ahi_catalog.connectors.errors import ConflictError, RefusedError, StoreError
from ahi_catalog.connectors.settings import S3Access
from ahi_catalog.connectors.storage import Entry, open_store
from ahi_catalog.connectors.storage.probe import probe
from ahi_catalog.connectors.storage.s3 import S3Store


def make_store(url: str) -> tuple[S3Store, Any]:
    """A store that does not wait between tries, and its client."""
    # The default session keeps the first credentials that it sees.
    client = boto3.Session().client(
        "s3", config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    )
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return S3Store(bucket, prefix, client, backoff=lambda _: 0), client


def lose_answers(client: Any, operation: str, times: int) -> list[int]:
    """Drop the next answers of an operation after the server has given them."""
    lost: list[int] = []

    def lose(**_: Any) -> None:
        if len(lost) < times:
            lost.append(1)
            raise ConnectionClosedError(endpoint_url="http://127.0.0.1")

    client.meta.events.register(f"before-parse.s3.{operation}", lose)
    return lost


def test_a_lost_answer_to_a_put_that_was_applied_is_no_conflict(s3_url: str) -> None:
    """The object is read again and holds what was meant; the put is done, and done once."""
    store, client = make_store(s3_url)
    first = store.put("k", b"one", expected=None)
    lost = lose_answers(client, "PutObject", 1)
    etag = store.put("k", b"two", expected=first)
    assert lost
    found = store.get("k")
    assert found is not None
    assert (found.body, found.etag) == (b"two", etag)


def answer_instead(client: Any, operation: str, *answers: tuple[int, str]) -> None:
    """Put errors in the place of the server's next answers; an empty code leaves a body that is no XML."""
    left = list(answers)

    def replace(response_dict: dict[str, Any], **_: Any) -> None:
        if left:
            status, code = left.pop(0)
            response_dict["status_code"] = status
            response_dict["body"] = f"<Error><Code>{code}</Code></Error>".encode() if code else b"<half"

    client.meta.events.register(f"before-parse.s3.{operation}", replace)


@pytest.mark.parametrize(
    "answers",
    [
        [(500, "InternalError"), (503, "SlowDown")],
        [(409, "ConditionalRequestConflict")],
        [(412, "PreconditionFailed")],
        [(409, "OperationAborted"), (200, "")],
    ],
    ids=lambda answers: str(answers[0]),
)
def test_a_put_that_was_applied_is_done_whatever_was_answered(s3_url: str, answers: list[tuple[int, str]]) -> None:
    """Server errors and conflicts with oneself are settled by reading the object again."""
    store, client = make_store(s3_url)
    answer_instead(client, "PutObject", *answers)
    etag = store.put("k", b"one", expected=None)
    found = store.get("k")
    assert found is not None
    assert (found.body, found.etag) == (b"one", etag)


def refuse(client: Any, times: int) -> list[str]:
    """Keep the next puts from their aim: the server answers 412 to them, with the object as it was."""
    refused: list[str] = []

    def spoil(params: dict[str, Any], **_: Any) -> None:
        if len(refused) < times:
            refused.append(params["headers"].pop("If-None-Match", "*"))
            params["headers"]["If-Match"] = '"0"'

    client.meta.events.register("before-call.s3.PutObject", spoil)
    return refused


def test_a_refusal_where_nobody_has_written_is_tried_again(s3_url: str) -> None:
    """Two writers that meet may both be refused; whoever finds the object as it was tries again."""
    store, client = make_store(s3_url)
    refused = refuse(client, 2)
    store.put("k", b"one", expected=None)
    assert len(refused) == 2
    refuse(client, 100)
    with pytest.raises(StoreError, match="refuses a conditional write"):
        store.put("other", b"one", expected=None)
    assert store.get("other") is None


def test_a_listing_that_is_no_xml_is_asked_for_again(s3_url: str) -> None:
    """Half an answer costs a retry, and its text is in no error."""
    store, client = make_store(s3_url)
    store.put("a/k", b"one", expected=None)
    answer_instead(client, "ListObjectsV2", (200, ""))
    assert [entry.key for entry in store.entries("a/")] == ["a/k"]
    answer_instead(client, "ListObjectsV2", *[(200, "")] * 100)
    with pytest.raises(StoreError, match="the answer cannot be read") as caught:
        list(store.entries("a/"))
    assert "half" not in str(caught.value)


def test_a_listing_of_several_pages_is_whole(s3_url: str) -> None:
    """Pages of two keys make up the whole listing, each key once."""
    store, client = make_store(s3_url)
    keys = [f"a/{number}" for number in range(5)]
    for key in keys:
        store.put(key, b"", expected=None)
    asked: list[str] = []

    def cut(params: dict[str, Any], **_: Any) -> dict[str, Any]:
        asked.append(params["Prefix"])
        return params | {"MaxKeys": 2}

    client.meta.events.register("provide-client-params.s3.ListObjectsV2", cut)
    assert sorted(entry.key for entry in store.entries("a/")) == keys
    assert len(asked) == 3


def test_a_read_that_fails_is_tried_again(s3_url: str) -> None:
    """A dropped connection on a read costs a retry."""
    store, client = make_store(s3_url)
    store.put("k", b"one", expected=None)
    lose_answers(client, "GetObject", 3)
    found = store.get("k")
    assert found is not None
    assert found.body == b"one"


def test_a_store_that_never_answers_is_one_line(s3_url: str) -> None:
    """When every try fails, the error says what cannot be reached and what to check."""
    store, client = make_store(s3_url)
    lose_answers(client, "ListObjectsV2", 100)
    with pytest.raises(StoreError, match="cannot be reached"):
        list(store.entries("a/"))


def test_wrong_credentials_and_buckets_say_what_to_do(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors that no retry mends come at once, in one line, without the key."""
    with pytest.raises(StoreError, match="no such bucket"):
        open_store("s3://no-such-bucket-here/x").get("k")
    with pytest.raises(StoreError, match="no such bucket"):
        open_store("s3://no-such-bucket-here/x").put("k", b"", expected=None)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(StoreError, match="credentials") as caught:
        open_store(s3_url).get("k")
    assert "wrong-secret" not in str(caught.value)


def want_no_quotes(client: Any) -> list[str]:
    """Answer 412 to an If-Match whose ETag is quoted, as Ceph's older gateways do; the headers that came."""
    seen: list[str] = []

    def refuse(request: Any, **_: Any) -> AWSResponse | None:
        condition = request.headers.get("If-Match", b"").decode()
        seen.append(condition)
        if not condition.startswith('"'):
            return None
        body = io.BytesIO(b"<Error><Code>PreconditionFailed</Code></Error>")
        return AWSResponse(request.url, 412, HTTPHeaders(), HTTPResponse(body, preload_content=False))

    client.meta.events.register("before-send.s3.PutObject", refuse)
    return seen


def test_a_server_that_wants_the_etag_without_quotes_is_understood(s3_url: str) -> None:
    """A 412 though the object is the expected one turns the quotes off, for good; a real conflict stays one."""
    store, client = make_store(s3_url)
    first = store.put("k", b"one", expected=None)
    seen = want_no_quotes(client)
    second = store.put("k", b"two", expected=first)
    with pytest.raises(ConflictError):
        store.put("k", b"three", expected=first)
    store.put("k", b"four", expected=second)
    assert seen == [first, *(etag.strip('"') for etag in (first, first, second))]
    probe(store)


@pytest.mark.parametrize("operation", ["GetObject", "PutObject"])
def test_an_answer_without_an_etag_is_not_the_stores(s3_url: str, operation: str) -> None:
    """A gateway's page with status 200 is in doubt: reads are tried again, puts read back."""
    store, client = make_store(s3_url)
    first = store.put("k", b"one", expected=None)
    left = [1, 1]

    def drop(response_dict: dict[str, Any], **_: Any) -> None:
        if left:
            left.pop()
            del response_dict["headers"]["etag"]

    client.meta.events.register(f"before-parse.s3.{operation}", drop)
    second = store.put("k", b"two", expected=first)
    found = store.get("k")
    assert found is not None
    assert (found.body, found.etag) == (b"two", second)
    if operation == "GetObject":
        left.extend([1] * 100)
        with pytest.raises(StoreError, match="an answer that is not S3's"):
            store.get("k")


def test_a_denied_copy_names_the_rights_that_it_takes(s3_url: str) -> None:
    """There is no right of the operation's name."""
    store, client = make_store(s3_url)
    store.put("k", b"one", expected=None)
    [entry] = store.entries("k")
    denied: Any = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}

    def deny(**_: Any) -> None:
        raise ClientError(denied, "CopyObject")

    client.meta.events.register("before-parse.s3.CopyObject", deny)
    with pytest.raises(RefusedError, match="s3:GetObject of what is copied, or to s3:PutObject where it goes"):
        store.copy(store, entry, "other")


def test_a_copy_is_encrypted_and_checked_as_a_put_is() -> None:
    """With the key, of the version that was listed, and in buckets of the owner alone, at both ends."""
    client = boto3.Session("key", "hidden", region_name="us-east-1").client("s3")
    sent: dict[str, str] = {}

    def keep(params: dict[str, Any], **_: Any) -> None:
        sent.update(params["headers"])
        raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "CopyObject")

    client.meta.events.register("before-call.s3.CopyObject", keep)
    store = S3Store("catalogs", "", client, access=S3Access(kms_key="alias/k", bucket_owner="1" * 12))
    with pytest.raises(ConflictError):
        store.copy(store, Entry("a/b=c", 3, '"etag"'), "other")
    assert {name.removeprefix("x-amz-"): value for name, value in sent.items() if name.startswith("x-amz-")} == {
        "copy-source": "catalogs/a/b%3Dc",
        "copy-source-if-match": '"etag"',
        "expected-bucket-owner": "1" * 12,
        "source-expected-bucket-owner": "1" * 12,
        "server-side-encryption": "aws:kms",
        "server-side-encryption-aws-kms-key-id": "alias/k",
        "tagging-directive": "REPLACE",
    }
