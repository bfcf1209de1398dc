"""A flow that a command calls and waits for: on the server that is named, or on a temporary one."""

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx

from ahi_catalog.connectors.errors import AhiCatalogError, Remedy
from ahi_catalog.flows.server import check_server, explain
from ahi_catalog.flows.settings import is_server_named, set_prefect_defaults
from ahi_catalog.flows.temporary_server import start_temporary_server

if TYPE_CHECKING:
    from prefect import State


def call_flow(flow: "Callable[[], State[Any]]") -> "State[Any]":
    """The final state of a flow run that a command calls and waits for, on a temporary server where none is named.

    Raises:
        AhiCatalogError: There is no server to run it on, or it is lost on the way.
    """
    # A failure is told in one line by the command; Prefect keeps its logs for its own pages.
    set_prefect_defaults(PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL="CRITICAL")
    # Until the flow itself heeds signals, SIGTERM ends the process in order too, and with it the temporary server.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        try:
            check_server() if is_server_named() else start_temporary_server()
        except AhiCatalogError as error:
            raise type(error)(error.message, remedy=Remedy.NO_PREFECT) from None
        return flow()
    except httpx.HTTPError as error:
        raise AhiCatalogError(f"Prefect's server {explain(error)}; the next run resumes") from None
    finally:
        signal.signal(signal.SIGTERM, before)
