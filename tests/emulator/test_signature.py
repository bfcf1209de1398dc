from typing import Any

import pytest


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "MissingAuthenticationTokenException"),
        ({"authorization": "Bearer abc", "x-amz-date": "20260501T120000Z"}, "IncompleteSignatureException"),
        ({"authorization": "AWS4-HMAC-SHA256", "x-amz-date": "20260501T120000Z"}, "IncompleteSignatureException"),
    ],
    ids=["none", "of-another-kind", "cut-short"],
)
def test_a_request_without_a_signature_is_refused(running: Any, headers: dict[str, str], code: str) -> None:
    """Anything but a complete Signature Version 4 header is a 403 of AWS's name."""
    answer = running.raw_search(headers=headers)
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (403, code)


def test_a_signature_needs_its_date(running: Any, signed: Any) -> None:
    """A signature without X-Amz-Date is incomplete."""
    headers = signed()
    del headers["x-amz-date"]
    assert running.raw_search(headers=headers).headers["x-amzn-errortype"] == "IncompleteSignatureException"


@pytest.mark.parametrize("elsewhere", [{"service": "s3"}, {"region": "eu-central-1"}])
def test_a_signature_for_elsewhere_is_refused(running: Any, signed: Any, elsewhere: dict[str, str]) -> None:
    """The credential's scope must be medical-imaging in the service's region."""
    answer = running.raw_search(headers=signed(**elsewhere))
    assert (answer.status, answer.headers["x-amzn-errortype"]) == (403, "InvalidSignatureException")
