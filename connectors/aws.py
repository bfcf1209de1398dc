"""boto3's clients as both ends use them: its own credentials, regions and endpoints, and no retries."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import boto3
import botocore.exceptions
from botocore.config import Config

from connectors.errors import UsageError

_SESSION: Final[ContextVar[boto3.Session | None]] = ContextVar("session", default=None)


@contextmanager
def using(session: boto3.Session | None) -> Iterator[None]:
    """Clients made inside, in this thread, have the credentials and the region of this session.

    Args:
        session: The session. None: whatever boto3 finds itself.
    """
    token = _SESSION.set(session)
    try:
        yield
    finally:
        _SESSION.reset(token)


def current_session() -> boto3.Session:
    """The session whose credentials and region are used here."""
    return _SESSION.get() or boto3.Session()


def has_custom_endpoint(client: Any) -> bool:
    """Whether a boto3 client talks to something else than AWS."""
    url: str = client.meta.endpoint_url
    return ".amazonaws." not in url and not url.endswith(".api.aws")


def make_client(service: str, *, connections: int, read_timeout: int, for_custom_endpoint: Config) -> Any:
    """A thread-safe client that tries each request once.

    Args:
        service: As boto3 names it.
        connections: Requests that may be under way at once.
        read_timeout: Seconds without an answer.
        for_custom_endpoint: More settings, where the endpoint is not AWS's.

    Raises:
        UsageError: boto3 finds no region, or a profile that does not exist.
    """
    config = Config(
        connect_timeout=5,
        read_timeout=read_timeout,
        max_pool_connections=connections,
        retries={"total_max_attempts": 1},
        user_agent_extra="ahi-catalog",
    )
    try:
        client = _make(service, config)
        return _make(service, config.merge(for_custom_endpoint)) if has_custom_endpoint(client) else client
    except botocore.exceptions.NoRegionError:
        raise UsageError("no AWS region: set AWS_DEFAULT_REGION, or a region in your profile") from None
    except (botocore.exceptions.ProfileNotFound, ValueError) as error:
        raise UsageError(f"boto3 cannot start: {error}") from None


def _make(service: str, config: Config) -> Any:
    make: Any = current_session().client
    return make(service, config=config)
