"""boto3's clients as both ends use them: its own credentials, regions and endpoints, no retries unless asked for.

Never plain http, but to this machine.
"""

import logging
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import boto3
import botocore.exceptions
from botocore.config import Config
from botocore.parsers import ResponseParserError

from ahi_catalog.connectors.endpoints import check_endpoint
from ahi_catalog.connectors.errors import UsageError

_CODE: Final = re.compile(r"[A-Za-z0-9.]{1,64}")
_TALKATIVE: Final = ("botocore", "boto3", "s3transfer", "urllib3")
"""Loggers that at DEBUG write requests and answers down, bodies and signatures included."""

_NO_CREDENTIALS: Final = (
    botocore.exceptions.NoCredentialsError,
    botocore.exceptions.PartialCredentialsError,
    botocore.exceptions.CredentialRetrievalError,
    botocore.exceptions.TokenRetrievalError,
    botocore.exceptions.SSOError,
    botocore.exceptions.UnauthorizedSSOTokenError,
)

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


def chosen_session() -> boto3.Session | None:
    """The session of `using`; None where boto3 finds credentials itself."""
    return _SESSION.get()


def has_custom_endpoint(client: Any) -> bool:
    """Whether a boto3 client talks to something else than AWS."""
    url: str = client.meta.endpoint_url
    return ".amazonaws." not in url and not url.endswith(".api.aws")


def make_client(
    service: str,
    *,
    connections: int = 1,
    read_timeout: int = 60,
    for_custom_endpoint: Config | None = None,
    attempts: int = 1,
) -> Any:
    """A thread-safe client that tries each request once, unless asked for more; over https or to this machine.

    Certificates are checked as boto3 does; no setting of ours switches that off.

    Args:
        service: As boto3 names it.
        connections: Requests that may be under way at once.
        read_timeout: Seconds without an answer.
        for_custom_endpoint: More settings, where the endpoint is not AWS's.
        attempts: Tries of a request by boto3; 1 where its repetition is our own business.

    Raises:
        UsageError: boto3 finds no region, a profile that does not exist, or an endpoint that is not https.
    """
    config = Config(
        connect_timeout=5,
        read_timeout=read_timeout,
        max_pool_connections=connections,
        retries={"total_max_attempts": attempts},
        # botocore puts its own name together anew for each request, from some sixty parts.
        user_agent=f"ahi-catalog Boto3/{boto3.__version__}",
    )
    try:
        session: Any = current_session()
        client = session.client(service, config=config)
        if has_custom_endpoint(client):
            if client.meta.endpoint_url.startswith("http://"):
                # What does not leave this machine does not go by way of a proxy.
                config = config.merge(Config(proxies={}))
            # The same session: it has read the service's model already, which takes a fifth of a second.
            client = session.client(service, config=config.merge(for_custom_endpoint or Config()))
    except botocore.exceptions.NoRegionError:
        raise UsageError("no AWS region: set AWS_DEFAULT_REGION, or a region in your profile") from None
    except botocore.exceptions.ProfileNotFound as error:
        raise UsageError(f"boto3 cannot start: {error}") from None
    except ValueError:
        # Not quoted: a URL may hold a password.
        raise UsageError("boto3 cannot start: a setting (AWS_ENDPOINT_URL_*, AWS_CONFIG_FILE) is not valid") from None
    check_endpoint(client.meta.service_model.service_id, client.meta.endpoint_url)
    silence_bodies()
    return client


def error_code(error: botocore.exceptions.ClientError) -> str:
    """The code of an answer that refuses; ``unknown`` where it is none that a service would make up."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code if _CODE.fullmatch(code) else "unknown"


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """What it means that a request got no answer, or none that can be read.

    Attributes:
        advice: What is wrong, and what to do.
        may_pass: Whether trying again may help.
    """

    advice: str
    may_pass: bool


def no_answer(error: Exception, variable: str) -> NoAnswer:
    """What a failure of botocore's means that is no refusal (ClientError); nothing of the request is in it.

    Args:
        error: What the call raised.
        variable: Names the endpoint, as `AWS_ENDPOINT_URL_S3`.
    """
    if isinstance(error, _NO_CREDENTIALS):
        advice = "no usable AWS credentials: set AWS_PROFILE or AWS_ACCESS_KEY_ID (aws sts get-caller-identity tells)"
        return NoAnswer(advice, may_pass=False)
    if _refused_certificate(error):
        advice = "the endpoint's certificate is not trusted: check AWS_CA_BUNDLE and proxies"
        return NoAnswer(advice, may_pass=False)
    if isinstance(error, ResponseParserError | UnicodeDecodeError):
        return NoAnswer(f"the answer cannot be read: check {variable} and proxies; run again to resume", may_pass=True)
    advice = f"cannot be reached ({type(error).__name__}): check region, network, proxies and {variable}"
    return NoAnswer(f"{advice}; run again to resume", may_pass=True)


def _refused_certificate(error: BaseException) -> bool:
    """Whether this side refused a certificate; a handshake may also fail because a connection was cut."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return True
    return any(_refused_certificate(cause) for cause in (error.__cause__, error.__context__) if cause)


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
