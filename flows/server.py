"""Prefect's server: whether there is one, whether it fits, and flows that are called from a command.

Prefect takes seconds to import, and reads its variables as it is imported; so functions import it when they run.
"""

import os
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import httpx

from ahi_catalog.connectors.errors import AhiCatalogError, Remedy

if TYPE_CHECKING:
    from prefect import State

_DEFAULTS: Final = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # A temporary server takes a quarter of a minute to start, and more than Prefect's 20 seconds on a busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
}
"""Prefect's settings where the user has none."""
_SECONDS: Final = 10


def set_prefect_defaults(**more: str) -> None:
    """Set Prefect's variables where the user has not, before Prefect is imported."""
    for name, value in (_DEFAULTS | more).items():
        os.environ.setdefault(name, value)


def connection() -> tuple[str | None, str | None]:
    """The server that flows talk to and the key for it, by Prefect's own settings; None where none is set."""
    from prefect.settings import get_current_settings  # noqa: PLC0415

    api = get_current_settings().api
    return api.url, api.key.get_secret_value() if api.key else None


def refuse_unreachable_server() -> None:
    """Say so where Prefect's settings name a server that is not there; what Prefect says of it helps nobody.

    It is asked by Prefect's own client, with its certificates, headers and redirects.

    Raises:
        AhiCatalogError: It cannot be reached.
    """
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    if connection()[0] is None:
        return
    with get_client(sync_client=True) as client:
        failure = client.api_healthcheck()
    if isinstance(failure, httpx.ConnectError):
        # The URL is not quoted: it may hold a password.
        raise AhiCatalogError(
            "Prefect's server cannot be reached: start it, or check PREFECT_API_URL", remedy=Remedy.NO_PREFECT
        )


def check_server(url: str, *, key: str | None = None) -> str:
    """What a server says of itself: that it answers, and its version where it tells one.

    Args:
        url: Of its API.
        key: For Prefect Cloud.

    Raises:
        AhiCatalogError: It does not answer, or is older than the installed client.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(headers=headers, timeout=_SECONDS) as client:
            health = client.get(f"{url}/health")
            answer = client.get(f"{url}/admin/version")
    except httpx.HTTPError as error:
        reason = type(error).__name__
        raise AhiCatalogError(
            f"{url} cannot be reached ({reason}): start the server, or check PREFECT_API_URL"
        ) from None
    if not health.is_success:
        raise AhiCatalogError(f"{url} answers {health.status_code}: check PREFECT_API_URL and PREFECT_API_KEY")
    installed = version("prefect")
    if not answer.is_success:
        # Prefect Cloud tells none.
        return f"{url} answers; the client is {installed}"
    served = answer.text.strip().strip('"')
    if _minor(served) < _minor(installed):
        raise AhiCatalogError(f"the server is {served}, older than the client's {installed}: upgrade the server first")
    return f"{url} answers, version {served}"


def _minor(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def call_flow(flow: "Callable[[], State[Any]]") -> "State[Any]":
    """The final state of a flow run that a command calls and waits for.

    Raises:
        AhiCatalogError: Prefect's server cannot be reached.
    """
    # A failure is told in one line by the command; Prefect keeps its logs for its own pages.
    set_prefect_defaults(PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL="CRITICAL")
    refuse_unreachable_server()
    # Ctrl-C reaches the whole process group, Prefect's temporary server too, which a run needs to end in order.
    # The server inherits what is blocked here; the flow's own `stop_on_signals` lets Ctrl-C through again.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return flow()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def stop_temporary_server() -> None:
    """End the server that Prefect started for this process, if it did; at a usual exit Prefect does so itself."""
    if module := sys.modules.get("prefect.server.api.server"):
        module.SubprocessASGIServer().stop()
