"""Prefect's server as a command finds it: a small stub of each kind of trouble, told in one line, and whose it is."""

import json
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread

import pytest
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_CLOUD_API_URL,
    temporary_settings,
)

from ahi_catalog.connectors.errors import AhiCatalogError
from ahi_catalog.flows import server
from ahi_catalog.flows.server import check_server
from tests.support.certificates import make_certificate

INSTALLED = version("prefect")
FITS = {"admin/version": (200, json.dumps(INSTALLED)), "flows/filter": (200, "[]"), "csrf-token": (404, "")}


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of this machine takes part."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@contextmanager
def stub(
    answers: dict[str, tuple[int, str]],
    *,
    otherwise: tuple[int, str] = (404, ""),
    tls: ssl.SSLContext | None = None,
    authorization: str | None = None,
) -> Iterator[str]:
    """A server that answers as it is told to, by path; its API's URL. 503 asks to come back in ten minutes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix("/api/").partition("?")[0]
            status, body = answers.get(path, otherwise)
            if authorization and self.headers.get("Authorization") != authorization:
                status = 401
            self.send_response(status)
            if status == 503:
                self.send_header("Retry-After", "600")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815  # the name that http.server calls

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            del format, args

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            del request, client_address

    listening = Quiet(("127.0.0.1", 0), Handler)
    if tls is not None:
        listening.socket = tls.wrap_socket(listening.socket, server_side=True)
    thread = Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{listening.server_port}/api"
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def told(url: str) -> str:
    """The one line about the server at a URL."""
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(AhiCatalogError) as raised:
        check_server()
    assert "\n" not in raised.value.message
    assert "secret" not in raised.value.message
    return raised.value.message


@pytest.mark.parametrize(
    ("is_cloud", "says"), [(False, f"answers, version {INSTALLED}"), (True, f"the client is {INSTALLED}")]
)
def test_a_server_that_fits_says_what_it_is(is_cloud: bool, says: str) -> None:  # noqa: FBT001
    """Its version; Prefect Cloud tells none, and is not asked for one."""
    with stub(FITS | ({"admin/version": (404, "")} if is_cloud else {})) as url:
        cloud = url if is_cloud else "https://cloud.example"
        with temporary_settings({PREFECT_API_URL: url, PREFECT_CLOUD_API_URL: cloud}):
            assert check_server().endswith(says)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"admin/version": (401, "")}, "refuses (401): check PREFECT_API_KEY"),
        ({"flows/filter": (401, "")}, "PREFECT_API_AUTH_STRING"),
        ({"admin/version": (403, "")}, "refuses (403)"),
        ({"admin/version": (200, '"3.1.0"')}, "is 3.1.0, older than the client's"),
        ({"admin/version": (200, '"2.20.3"')}, "upgrade the server first"),
        ({"admin/version": (200, "<html>Log in</html>")}, "not as Prefect's API"),
        ({"admin/version": (200, '{"service": "another"}')}, "not as Prefect's API"),
        ({"admin/version": (404, "")}, "answers 404, not as Prefect's API: check PREFECT_API_URL, which ends in /api"),
        ({"flows/filter": (500, "")}, "is not well (it answers 500): look at its log and its database"),
    ],
)
def test_a_server_that_is_no_use_is_told_as_what_it_is(changes: dict[str, tuple[int, str]], says: str) -> None:
    """A refusal, an older one, another thing at that address, one that is unwell: each with what to do."""
    with stub(FITS | changes) as url:
        assert says in told(url)


def test_the_server_is_asked_as_a_run_asks() -> None:
    """With the credentials of the settings; neither they nor a password in the URL are told."""
    expected = f"Basic {b64encode(b'admin:secret-word').decode()}"
    with stub(FITS, authorization=expected) as url:
        assert "refuses (401)" in told(url.replace("http://", "http://somebody:secret-word@"))
        with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: "admin:secret-word"}):
            assert "answers" in check_server()
            assert "answers 404" in told(url.replace("/api", "/nothing"))


@pytest.mark.parametrize("kind", ["hangs", "asks to wait"])
def test_a_server_that_hangs_is_not_waited_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes the connection and says nothing, and one that asks to come back in ten minutes."""
    monkeypatch.setattr(server, "_CHECK_SECONDS", 0.5)
    if kind == "hangs":
        with socket.create_server(("127.0.0.1", 0)) as listening:
            message = told(f"http://127.0.0.1:{listening.getsockname()[1]}/api")
    else:
        with stub(FITS | {"admin/version": (503, "")}) as url:
            message = told(url)
    assert "does not answer within 0.5 seconds" in message


def test_a_check_is_bounded_by_half_a_minute() -> None:
    """Whatever the server does."""
    assert server._CHECK_SECONDS < 30


def test_a_wrong_name_is_told_apart_from_a_server_that_is_down() -> None:
    """And so is what is no URL; a server that is down is told in tests/cli/test_answers.py."""
    assert "a name that is not known here" in told("http://nowhere.invalid/api")
    assert "begins with http://" in told("127.0.0.1:4200/api")


def test_a_proxy_between_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is down or refuses is not the server's fault; a SOCKS proxy needs a package."""
    with stub({}, otherwise=(502, "")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.removesuffix("/api"))
        monkeypatch.setattr(server, "_CHECK_SECONDS", 0.5)
        assert "NO_PROXY lists hosts that are not" in told("http://prefect.internal:4200/api")
    assert "NO_PROXY lists hosts that are not" in told("http://prefect.internal:4200/api")
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    assert "SOCKS proxy" in told("http://prefect.internal:4200/api")


def test_a_private_certificate_is_told_apart_from_no_tls(tmp_path: Path) -> None:
    """The CA's file is what is missing, and mends it; a file that is not there is named, and so is a wrong https."""
    certificate = make_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with stub(FITS, tls=tls) as url:
        assert "PREFECT_API_SSL_CERT_FILE" in (said := told(url))
        assert "self-signed certificate" in said
        with temporary_settings({PREFECT_API_URL: url, PREFECT_API_SSL_CERT_FILE: str(certificate)}):
            assert "answers" in check_server()
        with temporary_settings({PREFECT_API_SSL_CERT_FILE: str(tmp_path / "absent")}):
            assert "check the file in PREFECT_API_SSL_CERT_FILE" in told(url)
    with stub(FITS) as url:
        assert "does not speak TLS" in told(url.replace("http", "https"))
