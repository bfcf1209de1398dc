"""Prefect's server as a command finds it."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from threading import Thread

import pytest

from ahi_catalog.connectors.errors import AhiCatalogError
from ahi_catalog.flows.server import check_server


@contextmanager
def prefect_server(**answers: tuple[int, str]) -> Iterator[str]:
    """A server that answers as Prefect's does: health, and its version."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path.removeprefix("/api/").replace("admin/", ""), (404, ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            del format, args

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("health", "served", "says"),
    [
        ((200, "true"), (200, f'"{version("prefect")}"'), f"answers, version {version('prefect')}"),
        ((200, "true"), (404, ""), f"the client is {version('prefect')}"),
    ],
)
def test_a_server_that_fits_says_what_it_is(health: tuple[int, str], served: tuple[int, str], says: str) -> None:
    """Its version, or where it tells none, as Prefect Cloud, the client's."""
    with prefect_server(health=health, version=served) as url:
        assert says in check_server(url)


@pytest.mark.parametrize(
    ("health", "served", "says"),
    [((200, "true"), (200, '"3.1.0"'), "upgrade the server"), ((401, ""), (401, ""), "PREFECT_API_KEY")],
)
def test_a_server_that_is_older_or_refuses_is_an_error(
    health: tuple[int, str], served: tuple[int, str], says: str
) -> None:
    """In one line that says what to do."""
    with prefect_server(health=health, version=served) as url, pytest.raises(AhiCatalogError, match=says):
        check_server(url)


def test_a_server_that_is_named_has_to_be_there() -> None:
    """One that was ended cannot be reached."""
    with prefect_server() as url:
        pass
    with pytest.raises(AhiCatalogError, match="cannot be reached"):
        check_server(url)
