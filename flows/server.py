"""The server that Prefect's settings name: whether it answers, lets us in and fits; if not, whose fault that is."""

import asyncio
import re
import socket
import ssl
import urllib.request
from importlib.metadata import version
from typing import Final

import httpx

from ahi_catalog.connectors.errors import AhiCatalogError, UsageError
from ahi_catalog.flows.settings import API_URL, set_prefect_defaults

_REQUEST_SECONDS: Final = 10
_CHECK_SECONDS: Final = 25
"""For all questions, and whatever waits between them Prefect's client is told to make by the server."""


def check_server() -> str:
    """What the server that Prefect's settings name says of itself, within half a minute.

    It is asked by Prefect's own client, so with the certificates, keys, headers and proxies of a run.

    Raises:
        UsageError: Prefect refuses its own settings.
        AhiCatalogError: The server does not answer, refuses, is none of Prefect's, or is older than the client.
    """
    set_prefect_defaults()
    try:
        from prefect.settings import PREFECT_API_URL  # noqa: PLC0415

        url = httpx.URL(PREFECT_API_URL.value())
    except (ValueError, TypeError, httpx.InvalidURL) as error:
        reason = type(error).__name__
        raise UsageError(f"Prefect's settings are wrong ({reason}): see `prefect config view`") from None
    try:
        return asyncio.run(asyncio.wait_for(_ask(), _CHECK_SECONDS))
    except (httpx.HTTPError, ImportError, OSError, ValueError) as error:
        # Of the URL the host alone is told: it may hold a password.
        raise AhiCatalogError(f"Prefect's server at {url.netloc.decode()} {explain(error)}{_by_proxy(url)}") from None


async def _ask() -> str:
    from prefect.client.base import ServerType  # noqa: PLC0415
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.settings import (  # noqa: PLC0415
        PREFECT_API_REQUEST_TIMEOUT,
        PREFECT_CLIENT_MAX_RETRIES,
        temporary_settings,
    )

    installed = version("prefect")
    with temporary_settings({PREFECT_API_REQUEST_TIMEOUT: _REQUEST_SECONDS, PREFECT_CLIENT_MAX_RETRIES: 1}):
        async with get_client() as client:
            # Prefect Cloud tells no version.
            served = None if client.server_type is ServerType.CLOUD else await client.api_version()
            if served is not None and _minor(served) < _minor(installed):
                raise AhiCatalogError(
                    f"Prefect's server is {served}, older than the client's {installed}: upgrade the server first"
                )
            # A health check would be answered without a key, and without a database.
            await client.read_flows(limit=1)
    return f"answers, version {served}" if served else f"answers; the client is {installed}"


def _minor(served: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", str(served))
    if found is None:
        raise ValueError
    return int(found[1]), int(found[2])


def explain(error: Exception) -> str:  # noqa: PLR0911  # a table
    """What is wrong with a server, or with the way to it, and what to do."""
    match error:
        case httpx.HTTPStatusError():
            return _explain_status(error.response.status_code)
        case httpx.ProxyError():
            return "is not reached: the proxy refuses"
        case TimeoutError() | httpx.TimeoutException():
            return f"does not answer within {_CHECK_SECONDS} seconds: look at its log and load, or check {API_URL}"
        case httpx.UnsupportedProtocol():
            return f"cannot be asked: {API_URL} begins with http:// or https://"
        case httpx.ConnectError():
            return _explain_connection(error)
        case httpx.HTTPError() | ValueError():
            return f"answers, but not as Prefect's API: check {API_URL}, which ends in /api"
        case ImportError():
            return f"cannot be asked ({error}): a SOCKS proxy or HTTP/2 needs a package that is not installed"
    # Before a connection is made, only certificates are read.
    return f"cannot be asked ({type(error).__name__}): check the file in PREFECT_API_SSL_CERT_FILE or SSL_CERT_FILE"


def _explain_status(status: int) -> str:
    if status in (401, 403):
        return f"refuses ({status}): check PREFECT_API_KEY (Prefect Cloud) or PREFECT_API_AUTH_STRING (your own server)"
    if status in (408, 429) or status >= 500:  # noqa: PLR2004  # HTTP's own classes
        return f"is not well (it answers {status}): look at its log and its database, or try again later"
    return f"answers {status}, not as Prefect's API: check {API_URL}, which ends in /api"


def _explain_connection(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError | socket.gaierror):
        cause = cause.__cause__ or cause.__context__
    match cause:
        case ssl.SSLCertVerificationError():
            return (
                f"has a certificate that is not trusted ({cause.verify_message}): name your CA's file in "
                "PREFECT_API_SSL_CERT_FILE"
            )
        case ssl.SSLError():
            return f"does not speak TLS: is it http:// in {API_URL}?"
        case socket.gaierror():
            return f"has a name that is not known here: check {API_URL}, or the network"
    return f"cannot be reached: start it, or check {API_URL}"


def _by_proxy(url: httpx.URL) -> str:
    proxies = urllib.request.getproxies()
    if not (proxies.keys() & {url.scheme, "all"}) or urllib.request.proxy_bypass(url.host):
        return ""
    return "; it is asked through the proxy of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY: NO_PROXY lists hosts that are not"
