"""The service's errors, with the status and the name that go on the wire.

Messages name fields and rules. They never repeat a value: values are patients' data.
"""


class ServiceError(Exception):
    """An answer that is an error: `code` goes into `x-amzn-ErrorType`, `message` into the JSON body."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message


def throttled() -> ServiceError:
    return ServiceError(429, "ThrottlingException", "Rate exceeded")


def conflict() -> ServiceError:
    return ServiceError(409, "ConflictException", "The resource is being changed by another request")


def inconsistent() -> ServiceError:
    return ServiceError(
        409,
        "ConflictException",
        "Requested ImageSet metadata is not consistent yet. Please retry after a few seconds.",
    )


def denied(operation: str = "this operation") -> ServiceError:
    return ServiceError(403, "AccessDeniedException", f"The caller is not authorized to perform {operation}")


def invalid(message: str) -> ServiceError:
    return ServiceError(400, "ValidationException", message)


def invalid_token() -> ServiceError:
    return invalid("The value at 'nextToken' is not a token of this query")


def expired_token() -> ServiceError:
    return invalid("The value at 'nextToken' has expired")


def internal() -> ServiceError:
    return ServiceError(500, "InternalServerException", "An unexpected error occurred")


def unavailable() -> ServiceError:
    return ServiceError(503, "ServiceUnavailableException", "The service is unavailable")


def not_found(what: str) -> ServiceError:
    return ServiceError(404, "ResourceNotFoundException", f"The {what} does not exist")


def unknown_operation() -> ServiceError:
    return ServiceError(404, "UnknownOperationException", "This service has no such operation")


def unknown_key() -> ServiceError:
    return ServiceError(403, "UnrecognizedClientException", "The security token included in the request is invalid.")


def unsigned() -> ServiceError:
    return ServiceError(403, "MissingAuthenticationTokenException", "Missing Authentication Token")


def incomplete_signature() -> ServiceError:
    return ServiceError(403, "IncompleteSignatureException", "The Authorization header is no complete AWS4 signature")


def wrong_signature(why: str) -> ServiceError:
    return ServiceError(403, "InvalidSignatureException", why)
