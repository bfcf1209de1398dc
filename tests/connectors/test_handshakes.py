"""A handshake that is cut short may pass; a certificate that is refused does not. Real sockets on loopback."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ahi_catalog.connectors.errors import AhiCatalogError, SourceError, StoreError, TransientError
from ahi_catalog.connectors.healthimaging.client import make_client
from ahi_catalog.connectors.healthimaging.failures import translate
from ahi_catalog.connectors.storage.s3 import S3Store, open_s3_store
from tests.support.certificates import make_certificate

BEGUN = b"\x16\x03\x03\x00\x7a\x02\x00"
"""The beginning of a server's part of a handshake."""
_HELLO = 1 << 16


def cut_short(connection: socket.socket) -> None:
    """Begin a handshake and go."""
    connection.recv(_HELLO)
    connection.sendall(BEGUN)


@contextlib.contextmanager
def serving(answer: Callable[[socket.socket], object]) -> Iterator[tuple[str, list[int]]]:
    """An endpoint that answers each connection so; its URL, and a mark for each connection."""
    connections: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connections.append(1)
                    with connection, contextlib.suppress(OSError):
                        answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.getsockname()[1]}", connections
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def self_signed(tmp_path: Path) -> Callable[[socket.socket], object]:
    """A server whose certificate nobody has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(make_certificate(tmp_path))
    return lambda connection: context.wrap_socket(connection, server_side=True)


def ask_store() -> AhiCatalogError:
    """How a read of S3 fails, after as many tries as it takes."""
    made = open_s3_store("bucket", "prefix")
    store = S3Store("bucket", "prefix", made._client, backoff=lambda _: 0)
    with pytest.raises(StoreError) as failed:
        store.get("k")
    return failed.value


def ask_service() -> AhiCatalogError:
    """How one request to HealthImaging fails."""
    try:
        make_client(connections=1).get_datastore(datastoreId="0" * 32)
    except Exception as error:  # noqa: BLE001  # whatever botocore makes of it
        return translate(error, "GetDatastore")
    raise AssertionError("the request went through")


def test_a_handshake_cut_short_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again, and told as what it is."""
    with serving(cut_short) as (url, connections):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        failure = ask_service()
        assert isinstance(failure, TransientError)
        assert "cannot be reached (SSLError)" in str(failure)
        connections.clear()
        assert "cannot be reached (SSLError)" in str(ask_store())
        assert len(connections) == 8


def test_a_certificate_that_is_not_trusted_is_final(
    monkeypatch: pytest.MonkeyPatch, self_signed: Callable[[socket.socket], object]
) -> None:
    """No second try, and the error says what to check, for either service."""
    with serving(self_signed) as (url, connections):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        failure = ask_service()
        assert type(failure) is SourceError
        assert "certificate is not trusted: check AWS_CA_BUNDLE" in str(failure)
        connections.clear()
        assert "certificate is not trusted: check AWS_CA_BUNDLE" in str(ask_store())
        assert len(connections) == 1


@pytest.mark.parametrize("bundle", ["/nonexistent/bundle.pem", __file__])
def test_a_bundle_without_certificates_is_final(monkeypatch: pytest.MonkeyPatch, bundle: str) -> None:
    """A file that is not there, or is none of certificates, is told with its variable, and not tried again."""
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    with serving(cut_short) as (url, connections):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        assert "check AWS_CA_BUNDLE" in str(ask_store())
        # The other side may not have noticed yet that there was one.
        assert len(connections) <= 1
