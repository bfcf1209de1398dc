from typing import Any

import pytest
from botocore.exceptions import ClientError

KEYS = {"AKIDGOOD": "good-secret"}


def test_unsigned_requests_are_refused(running: Any) -> None:
    """No Authorization header: 403 MissingAuthenticationTokenException."""
    answer = running.raw_search(headers={})
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (403, "MissingAuthenticationTokenException")


@pytest.mark.parametrize("authorization", ["Bearer abc", "AWS4-HMAC-SHA256 Credential=a/b", "AWS4-HMAC-SHA256"])
def test_malformed_signatures_are_refused(running: Any, authorization: str) -> None:
    """Anything but a complete Signature Version 4 header is refused."""
    answer = running.raw_search(headers={"authorization": authorization, "x-amz-date": "20260501T120000Z"})
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (403, "IncompleteSignatureException")


def test_a_signature_needs_its_date(running: Any, signed: Any) -> None:
    """A signature without X-Amz-Date cannot be checked."""
    headers = signed()
    del headers["x-amz-date"]
    assert running.raw_search(headers=headers).headers["x-amzn-errortype"] == "IncompleteSignatureException"


def test_a_signature_for_another_service_is_refused(running: Any, signed: Any) -> None:
    """The credential's scope must be medical-imaging."""
    answer = running.raw_search(headers=signed("s3"))
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (403, "InvalidSignatureException")


def test_good_credentials_pass_all_operations(start: Any, client_for: Any) -> None:
    """With credentials given, boto3's own signatures verify: paths, query strings, tokens and bodies."""
    running = start(credentials=KEYS)
    client = client_for(running.url, "AKIDGOOD", "good-secret")
    pages = client.get_paginator("search_image_sets").paginate(
        datastoreId=running.store,
        searchCriteria={"sort": {"sortField": "createdAt", "sortOrder": "ASC"}},
        PaginationConfig={"PageSize": 3},
    )
    assert sum(len(page["imageSetsMetadataSummaries"]) for page in pages) == 10
    assert client.get_image_set(datastoreId=running.store, imageSetId=f"{1:032x}", versionId="1")
    assert client.list_datastores(maxResults=1)


@pytest.mark.parametrize(
    ("key", "secret", "code"),
    [
        ("AKIDGOOD", "wrong", "InvalidSignatureException"),
        ("AKIDOTHER", "good-secret", "UnrecognizedClientException"),
    ],
)
def test_wrong_credentials_are_refused(start: Any, client_for: Any, key: str, secret: str, code: str) -> None:
    """A wrong secret or an unknown key is a 403 of the right name."""
    running = start(credentials=KEYS)
    with pytest.raises(ClientError) as refused:
        client_for(running.url, key, secret).get_datastore(datastoreId=running.store)
    assert refused.value.response["Error"]["Code"] == code
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_secrets_stay_out_of_reprs(start: Any) -> None:
    """The options' repr does not show the secret keys."""
    assert "good-secret" not in repr(start(credentials=KEYS).service.options)
