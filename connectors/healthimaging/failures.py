"""botocore's exceptions in our words: what went wrong, and what to do. No value of a request or an answer."""

from typing import Final

import botocore.exceptions as boto

from ahi_catalog.connectors.aws_failures import REFUSED_CREDENTIALS, THROTTLED, error_code, no_answer
from ahi_catalog.connectors.errors import (
    InvalidRequestError,
    NotReadyError,
    Remedy,
    SourceError,
    ThrottledError,
    TransientError,
)
from ahi_catalog.schemas import MalformedSummaryError

METADATA: Final = "GetImageSetMetadata"
_NOT_FOUND: Final = "ResourceNotFoundException"
_CONFLICT: Final = "ConflictException"
_TRANSIENT_STATUS: Final = frozenset({408, 500, 502, 503, 504})
_TOO_MANY_REQUESTS: Final = 429

_WHAT_TO_DO: Final = {
    **REFUSED_CREDENTIALS,
    "AccessDeniedException": "allow medical-imaging:{operation} on this data store",
    _NOT_FOUND: "check the data store id and the region (aws medical-imaging list-datastores)",
}


def translate(error: Exception, operation: str) -> SourceError:
    """The error to raise in place of botocore's (or of a page that cannot be read).

    Args:
        error: What the call raised.
        operation: The API operation, for the text.
    """
    if isinstance(error, boto.ClientError):
        return _translate_answer(error, operation)
    if isinstance(error, MalformedSummaryError):
        return TransientError(f"{operation}: {error}")
    if isinstance(error, boto.ParamValidationError):
        return InvalidRequestError(f"{operation}: botocore refuses the request")
    told = no_answer(error, "AWS_ENDPOINT_URL_MEDICAL_IMAGING")
    kind, remedy = (TransientError, Remedy.RESUME) if told.may_pass else (SourceError, None)
    return kind(f"{operation}: {told.advice}", remedy=remedy)


def is_not_found(error: Exception) -> bool:
    """Whether the service says that what was asked for is not there."""
    return isinstance(error, boto.ClientError) and error.response.get("Error", {}).get("Code") == _NOT_FOUND


def is_not_ready(error: Exception) -> bool:
    """Whether the service says that the metadata that was asked for is not consistent yet."""
    return isinstance(error, boto.ClientError) and error_code(error) == _CONFLICT


def _translate_answer(error: boto.ClientError, operation: str) -> SourceError:
    code = error_code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in THROTTLED or status == _TOO_MANY_REQUESTS:
        return ThrottledError(f"{operation}: throttled by the service; lower `rate` if others share the quota")
    if code == _CONFLICT and operation == METADATA:
        return NotReadyError(f"{operation}: not consistent yet, as after an import", remedy=Remedy.RESUME)
    if status in _TRANSIENT_STATUS:
        return TransientError(f"{operation}: the service answers {status}", remedy=Remedy.RESUME)
    if code == "ValidationException":
        return InvalidRequestError(f"{operation}: the service refuses the request as invalid")
    # The service's own message may quote the request; its code says enough.
    advice = _WHAT_TO_DO.get(code, "see the service's documentation of that error").format(operation=operation)
    remedy = Remedy.POLICY if code == "AccessDeniedException" else None
    return SourceError(f"{operation}: {code}: {advice}", remedy=remedy)
