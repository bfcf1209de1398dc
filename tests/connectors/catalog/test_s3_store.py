"""S3's own ways to fail, on a real server: botocore's event hooks lose its answers, no part of ours is replaced."""

from typing import Any

import boto3
import pytest
import tenacity
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError

from connectors.catalog.store import open_store
from connectors.catalog.store.s3 import S3Store
from connectors.errors import StoreError


def make_store(url: str) -> tuple[S3Store, Any]:
    """A store that does not wait between tries, and its client."""
    client = boto3.client("s3", config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}))
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return S3Store(bucket, prefix, client, backoff=tenacity.wait_none()), client


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
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(StoreError, match="credentials") as caught:
        open_store(s3_url).get("k")
    assert "wrong-secret" not in str(caught.value)
