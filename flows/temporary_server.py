"""A Prefect server for one process: with a home and a database of its own, reached without a proxy, ended with it."""

import atexit
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import httpx

from ahi_catalog.connectors.errors import AhiCatalogError
from ahi_catalog.flows.settings import API_URL, set_prefect_defaults

_log = logging.getLogger(__name__)

_OF_SERVERS: Final = ("PREFECT_API_", "PREFECT_SERVER_", "PREFECT_PROFILE")
"""What variables begin with that say which server there is, and how one is run."""
_START_SECONDS: Final = 180
"""It takes a quarter of a minute to start, and minutes on a busy machine."""
_REQUEST_SECONDS: Final = 10
_AT_END: Final = ExitStack()
"""Ends the server, and removes its folder."""


def start_temporary_server(
    command: Sequence[str] = (sys.executable, "-m", "prefect", "server", "start"),
    seconds: float = _START_SECONDS,
) -> None:
    """Start a server for this process, and have Prefect's settings name it; it ends with the process.

    Its home and its database are in a folder of its own. It takes nothing of what the user's settings say of servers,
    and leaves the user's own home as it is.

    Args:
        command: That starts it.
        seconds: For which its first answer is waited for.

    Raises:
        AhiCatalogError: It does not start.
    """
    for name in [name for name in os.environ if name.upper().startswith(_OF_SERVERS)]:
        del os.environ[name]
    try:
        home = _AT_END.enter_context(
            tempfile.TemporaryDirectory(prefix="ahi-catalog-prefect-", ignore_cleanup_errors=True)
        )
    except OSError:
        raise AhiCatalogError("no folder for temporary files can be written: set TMPDIR") from None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    api = f"http://127.0.0.1:{port}/api"
    direct = ",".join(filter(None, [urllib.request.getproxies().get("no"), "127.0.0.1"]))
    os.environ |= {"PREFECT_HOME": home, API_URL: api, "NO_PROXY": direct, "no_proxy": direct}
    set_prefect_defaults()
    # Before Prefect is imported, so that what it still has to send at exit is sent before.
    atexit.register(stop_temporary_server)
    log = Path(home, "server.log")
    # Ctrl-C reaches the whole process group; a run needs its server to end in order, and ends it then.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with log.open("wb") as output:
            server = subprocess.Popen(  # noqa: S603  # our own command
                command,
                cwd=home,
                env=os.environ | {"PREFECT_SERVER_API_PORT": port, "PREFECT_SERVER_UI_ENABLED": "false"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _AT_END.callback(_end, server)
    if _answers(server, f"{api}/health", seconds):
        return
    _log.debug("Prefect's temporary server: %s", log.read_text(errors="replace"))
    code = server.poll()
    stop_temporary_server()
    del os.environ[API_URL]
    how = f"does not answer within {seconds:g} seconds" if code is None else f"ends as it starts (code {code})"
    raise AhiCatalogError(f"Prefect's temporary server {how}: name a server of your own in {API_URL}")


def _answers(server: "subprocess.Popen[bytes]", url: str, seconds: float) -> bool:
    until = time.monotonic() + seconds
    with httpx.Client(trust_env=False, timeout=_REQUEST_SECONDS) as client:
        while server.poll() is None and time.monotonic() < until:
            try:
                if client.get(url).is_success:
                    return True
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    return False


def _end(server: "subprocess.Popen[bytes]") -> None:
    server.terminate()
    try:
        server.wait(5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def stop_temporary_server() -> None:
    """End the server that was started for this process, if one was; at a usual exit that is done without asking."""
    _AT_END.close()
