"""Every failure of botocore becomes one line of ours, without a value of the request or the answer."""

import inspect

import botocore.exceptions as boto
import pytest
from botocore.parsers import ResponseParserError

from ahi_catalog.connectors.errors import InvalidRequestError, SourceError, ThrottledError, TransientError
from ahi_catalog.connectors.healthimaging.failures import is_not_found, translate
from ahi_catalog.schemas import MalformedSummaryError

SECRET = "Tester^Anna"


class _Secrets(dict[str, str]):
    """A value for whatever an error's text asks for."""

    def __missing__(self, key: str) -> str:
        return SECRET


def botocore_errors() -> list[Exception]:
    """One of each class of botocore, with a patient's name in every value that its text may quote."""
    found: list[Exception] = []
    for _, kind in inspect.getmembers(boto, inspect.isclass):
        if not issubclass(kind, boto.BotoCoreError):
            continue
        error = kind.__new__(kind)
        Exception.__init__(error, kind.fmt.format_map(_Secrets()))
        error.kwargs = {"endpoint_url": f"https://{SECRET}@127.0.0.1/{SECRET}"}
        found.append(error)
    return found


def answer(code: str, status: int) -> boto.ClientError:
    return boto.ClientError(
        {"Error": {"Code": code, "Message": SECRET}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "SearchImageSets",
    )


@pytest.mark.parametrize(
    "error",
    [*botocore_errors(), ResponseParserError(SECRET), UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET)],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_is_one_line_without_values(error: Exception) -> None:
    """Whatever botocore's error says, ours names the operation, and nothing that was sent or received."""
    failure = translate(error, "SearchImageSets")
    assert str(failure).startswith("SearchImageSets: ")
    assert "\n" not in str(failure)
    assert SECRET not in str(failure)


@pytest.mark.parametrize(
    ("code", "status", "kind", "says"),
    [
        ("ThrottlingException", 429, ThrottledError, "`rate`"),
        ("SomethingNew", 429, ThrottledError, "`rate`"),
        ("TooManyRequestsException", 400, ThrottledError, "`rate`"),
        ("InternalServerException", 500, TransientError, "500"),
        ("502", 502, TransientError, "502"),
        ("ServiceUnavailableException", 503, TransientError, "503"),
        ("RequestTimeout", 408, TransientError, "408"),
        ("ValidationException", 400, InvalidRequestError, "invalid"),
        ("AccessDeniedException", 403, SourceError, "allow medical-imaging:SearchImageSets"),
        ("ResourceNotFoundException", 404, SourceError, "data store id"),
        ("ExpiredTokenException", 403, SourceError, "renew"),
        ("InvalidSignatureException", 403, SourceError, "clock"),
        ("UnrecognizedClientException", 403, SourceError, "credentials"),
        ("ConflictException", 409, SourceError, "documentation"),
    ],
)
def test_an_answer_says_whether_to_try_again_and_what_to_do(
    code: str, status: int, kind: type[SourceError], says: str
) -> None:
    """Throttling and server errors may pass; the others are final and give advice."""
    failure = translate(answer(code, status), "SearchImageSets")
    assert type(failure) is kind
    assert says in str(failure)
    assert SECRET not in str(failure)


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (boto.NoCredentialsError(), SourceError, "AWS_PROFILE"),
        (boto.TokenRetrievalError(provider="x", error_msg="y"), SourceError, "log in again"),
        (boto.SSLError(endpoint_url="x", error=OSError()), TransientError, "SSLError"),
        (boto.SSOTokenLoadError(error_msg="y"), SourceError, "log in again"),
        (boto.EndpointConnectionError(endpoint_url="x"), TransientError, "cannot be reached"),
        (boto.ReadTimeoutError(endpoint_url="x"), TransientError, "ReadTimeoutError"),
        (boto.ConnectionClosedError(endpoint_url="x"), TransientError, "ConnectionClosedError"),
        (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), TransientError, "cannot be read"),
        (boto.ParamValidationError(report=SECRET), InvalidRequestError, "refuses"),
        (MalformedSummaryError("a page of the service is not JSON"), TransientError, "not JSON"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failures_without_an_answer_are_told_apart(error: Exception, kind: type[SourceError], says: str) -> None:
    """Credentials and certificates are final; connections and half bodies may pass."""
    failure = translate(error, "GetImageSet")
    assert type(failure) is kind
    assert says in str(failure)


def test_only_the_services_own_not_found_is_one() -> None:
    """A 404 of something in between confirms no deletion."""
    assert is_not_found(answer("ResourceNotFoundException", 404))
    assert not is_not_found(answer("404", 404))
    assert not is_not_found(boto.EndpointConnectionError(endpoint_url="x"))
