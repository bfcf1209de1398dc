"""botocore's exceptions, looked through once: each means something to us, or cannot reach us."""

import inspect

import botocore.exceptions as boto
import pytest

from ahi_catalog.connectors import aws_failures

_RESOURCES = "boto3's resources, waiters, stubs and event streams are not used"
_INTERNAL = "botocore raises and catches it itself, or warns"
_OURS = "the request is made by this program of checked values"
IMPOSSIBLE = {
    "AliasConflictParameterError": _OURS,
    "AwsChunkedWrapperError": "bodies are bytes, and are not sent in chunks",
    "BotoCoreError": "the root of the others",
    "CapacityNotAvailableError": _INTERNAL,
    "EventStreamError": _RESOURCES,
    "ImminentRemovalWarning": _INTERNAL,
    "InvalidExpressionError": "paginators' expressions are botocore's own",
    "InvalidHostLabelError": "no parameter is part of a host's name",
    "MissingParametersError": _OURS,
    "MissingServiceIdError": "a model without an id is broken at its release",
    "OperationNotPageableError": _OURS,
    "RangeError": _OURS,
    "StubAssertionError": _RESOURCES,
    "StubResponseError": _RESOURCES,
    "UnStubbedResponseError": _RESOURCES,
    "UndefinedModelAttributeError": "a model without an id is broken at its release",
    "UnknownClientMethodError": _OURS,
    "UnknownKeyError": _OURS,
    "UnknownParameterError": _OURS,
    "UnknownServiceStyle": "of botocore before 1.0",
    "UnseekableStreamError": "bodies are bytes",
    "UnsupportedOutpostResourceError": "a bucket is checked to be a name, not an ARN",
    "UnsupportedS3AccesspointConfigurationError": "a bucket is checked to be a name, not an ARN",
    "UnsupportedS3ArnError": "a bucket is checked to be a name, not an ARN",
    "UnsupportedS3ControlArnError": "S3 Control is not used",
    "UnsupportedS3ControlConfigurationError": "S3 Control is not used",
    "UnsupportedTLSVersionWarning": _INTERNAL,
    "ValidationError": "the root of those that are named here, and of InvalidRegionError",
    "WaiterConfigError": _RESOURCES,
    "WaiterError": _RESOURCES,
}
"""The classes that cannot reach us, each with the reason."""
CLASSES = [kind for _, kind in inspect.getmembers(boto, inspect.isclass) if issubclass(kind, Exception)]
GROUPS = [
    (boto.ClientError,),
    aws_failures.CREDENTIALS,
    aws_failures.CONFIGURATION,
    aws_failures.LOST,
    aws_failures.GARBLED,
    (boto.ParamValidationError,),
]


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind.__module__ == boto.__name__])
def test_each_class_of_botocore_means_one_thing(kind: type[Exception]) -> None:
    """A class that a new botocore brings fails here, until it is handled or said to be impossible."""
    meanings = [group for group in GROUPS if issubclass(kind, group)]
    assert len(meanings) + (kind.__name__ in IMPOSSIBLE and kind is not boto.EventStreamError) == 1


def test_what_is_impossible_is_still_there() -> None:
    """A class that botocore drops goes from the list too."""
    assert {kind.__name__ for kind in CLASSES} >= IMPOSSIBLE.keys()
