"""Running the service: in a background thread for tests and the demo, or in the foreground on its own."""

import asyncio
import gc
import ipaddress
import socket
import threading
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from ahi_catalog.emulator.app import create_app
from ahi_catalog.emulator.faults import TRANSPORT
from ahi_catalog.emulator.service import Service

_START_SECONDS = 30.0
_BACKLOG = 512


# uvicorn chooses the class when it is imported: httptools' parser where installed, else h11's.
_Base: Any = AutoHTTPProtocol


class _Protocol(_Base):  # type: ignore[misc] # the base is only known at run time
    """uvicorn's own protocol, which also tells the application its transport, so that faults can break it."""

    app: ASGIApp
    transport: Any
    access_log: bool

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        # Nothing of a request may reach a log. (uvicorn's own setting would silence the whole process.)
        self.access_log = False
        app = self.app

        async def with_transport(scope: Scope, receive: Receive, send: Send) -> None:
            scope[TRANSPORT] = self.transport
            await app(scope, receive, send)

        self.app = with_transport


class _Server(uvicorn.Server):
    """A server that says when it is ready, and stops at once when another thread tells it to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        # uvicorn's own looks ten times a second whether to stop.
        await self._stopping.wait()

    def stop(self) -> None:
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)


def _config(service: Service) -> uvicorn.Config:
    service.prepare()
    return uvicorn.Config(
        create_app(service),
        http=_Protocol,
        ws="none",
        lifespan="off",
        backlog=_BACKLOG,
        log_config=None,  # nobody's loggers are touched
        proxy_headers=False,
        server_header=False,
        date_header=False,  # ours comes from the service's clock
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )


def listen(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A socket for `run_forever`; connections wait there until it serves.

    Args:
        port: 0 for any that is free.
        host: This machine, by name or address.

    Raises:
        ValueError: The host is not this machine: the controls under `/_control/` ask for no credentials.
        OSError: The port is taken.
    """
    if not _is_loopback(host):
        raise ValueError("the embedded service is no secure server: it listens on 127.0.0.1, ::1 or localhost only")
    return socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
    )


def run_forever(service: Service, listening: socket.socket) -> None:
    """Serve in the foreground until SIGINT or SIGTERM; prints nothing."""
    config = _config(service)
    # A million records live as long as the process: the collector need not look at them again.
    gc.collect()
    gc.freeze()
    uvicorn.Server(config).run(sockets=[listening])


class Emulator:
    """A server in a background thread, ready once entered, on a loopback port.

    Args:
        service: What it serves; shared with whoever holds it.
        port: The port; 0 for any that is free.
    """

    def __init__(self, service: Service, *, port: int = 0) -> None:
        self.service = service
        self._port = port
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        if self._socket is None:
            raise RuntimeError("the emulator is not running: enter it first")
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._socket = listen(self._port)
        self._server = _Server(_config(self.service))
        self._thread = threading.Thread(target=self._run, name="healthimaging-emulator", daemon=True)
        self._thread.start()
        if not self._server.ready.wait(_START_SECONDS):
            raise RuntimeError("the emulator did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._thread is not None and self._socket is not None:
            self._server.stop()
            self._thread.join(_START_SECONDS)
            self._socket.close()
        self._server = self._thread = self._socket = None

    def _run(self) -> None:
        if self._server is not None and self._socket is not None:
            self._server.run(sockets=[self._socket])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
