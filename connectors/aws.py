"""boto3's clients as both ends use them: its own credentials, regions and endpoints, no retries unless asked for.

Never plain http, but to this machine, or where that is allowed explicitly.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

import boto3
import botocore.exceptions as boto
from botocore.config import Config

from ahi_catalog.connectors.aws_failures import (
    NO_CREDENTIALS,
    configuration_failure,
    credentials_failure,
    may_pass,
)
from ahi_catalog.connectors.endpoints import check_endpoint, host, is_aws, is_loopback
from ahi_catalog.connectors.errors import UsageError

_T = TypeVar("_T")

_TALKATIVE: Final = ("botocore", "boto3", "s3transfer", "urllib3")
"""Loggers that at DEBUG write requests and answers down, bodies and signatures included."""

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
    """The session whose credentials and region are used here.

    Raises:
        UsageError: boto3 cannot work with the profile or the configuration.
    """
    with _configured():
        return _SESSION.get() or boto3.Session(region_name=_region())


def _region() -> str | None:
    """Of the environment; boto3 itself does not read the name that other SDKs, ECS and login helpers use."""
    return os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION") or None


@contextmanager
def _configured() -> Iterator[None]:
    try:
        yield
    except (boto.BotoCoreError, ValueError) as error:
        raise configuration_failure(error) from None


class Credentials:
    """Those of a session.

    boto3 gets them (reads files, runs programs, asks services) when it first signs a request, and again when they
    end; so whatever fails then, it fails in one place and before the request.

    Args:
        session: Whose they are.

    Raises:
        UsageError: There are none.
    """

    def __init__(self, session: boto3.Session) -> None:
        self._profile = None if session.profile_name == "default" else session.profile_name
        self._were_got = False
        found = self._have(session.get_credentials)
        if found is None:
            raise UsageError(NO_CREDENTIALS)
        self.method = found.method
        self._found = found

    def get(self, **_: Any) -> None:
        """Have them got where they are missing or about to end.

        Raises:
            UsageError: They cannot be had.
            Exception: As boto3 raises it, where they were had before and may be in a moment.
        """
        self._have(self._found.get_frozen_credentials)
        self._were_got = True

    def _have(self, get: Callable[[], _T]) -> _T:
        try:
            return get()
        except Exception as error:
            if self._were_got and may_pass(error):
                raise
            # Not chained: boto3 may quote what a program printed.
            failure = credentials_failure(error, self._profile)
        raise failure


def chosen_session() -> boto3.Session | None:
    """The session of `using`; None where boto3 finds credentials itself."""
    return _SESSION.get()


def has_custom_endpoint(client: Any) -> bool:
    """Whether a boto3 client talks to something else than AWS."""
    return not is_aws(client.meta.endpoint_url)


def make_client(
    service: str,
    *,
    connections: int = 1,
    read_timeout: int = 60,
    adapt: Callable[[Any], Config | None] = lambda _: None,
    attempts: int = 1,
    allow_http: bool | None = None,
) -> Any:
    """A thread-safe client that tries each request once, unless asked for more; over https or to this machine.

    Certificates are checked as boto3 does; no setting of ours switches that off.

    Args:
        service: As boto3 names it.
        connections: Requests that may be under way at once.
        read_timeout: Seconds without an answer.
        adapt: More settings, as a client without them shows them to be needed; None: no more.
        attempts: Tries of a request by boto3; 1 where its repetition is our own business.
        allow_http: Whether plain http is allowed to a host that is neither this machine nor AWS's; None: never.

    Raises:
        UsageError: boto3 finds no credentials or no region, cannot work with what is configured, or would ask an
            endpoint that is not https.
    """
    config = Config(
        connect_timeout=5,
        read_timeout=read_timeout,
        max_pool_connections=connections,
        retries={"total_max_attempts": attempts},
        # botocore puts its own name together anew for each request, from some sixty parts.
        user_agent=f"ahi-catalog Boto3/{boto3.__version__}",
    )
    session: Any = current_session()
    region = session.region_name or _region()
    credentials = Credentials(session)
    with _configured():
        client = session.client(service, region_name=region, config=config)
        more = adapt(client)
        if is_loopback(host(client.meta.endpoint_url)):
            # What does not leave this machine does not go by way of a proxy.
            more = Config(proxies={}).merge(more or Config())
        if more is not None:
            # The same session: it has read the service's model already, which takes a fifth of a second.
            client = session.client(service, region_name=region, config=config.merge(more))
    client.meta.events.register("before-sign", credentials.get)
    check_endpoint(client.meta.service_model.service_id, client.meta.endpoint_url, allow_http=allow_http)
    silence_bodies()
    return client


class _NoBodies(logging.Filter):
    """Lets warnings through and nothing below, whatever the levels of loggers and handlers."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING


_NO_BODIES: Final = _NoBodies()


def silence_bodies() -> None:
    """Keep what the libraries send and receive out of every log, also where someone sets them to DEBUG later.

    A filter holds for its very logger only, so each of their loggers gets it.
    """
    for name in [*_TALKATIVE, *logging.root.manager.loggerDict]:
        if name.partition(".")[0] in _TALKATIVE:
            logging.getLogger(name).addFilter(_NO_BODIES)  # A second time does nothing.
