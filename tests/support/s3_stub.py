"""S3 as far as a catalog uses it, with the answers that SeaweedFS does not give: other owners, puts that fail.

Objects lie in a dictionary; every request is kept for the test to look at.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

OWNER = "111122223333"


@dataclass
class S3Stub:
    """A bucket named ``catalogs`` that OWNER owns.

    Attributes:
        failing: Puts of keys with this in them are refused, in an error that quotes the body; empty: none are.
        encrypts: Whether an object is encrypted as the put asks.
    """

    endpoint: str = ""
    failing: str = ""
    encrypts: bool = True
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)


class _Handler(BaseHTTPRequestHandler):
    stub: S3Stub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, query = self._note()
        if self._is_foreign():
            return
        if "list-type" in query:
            prefix = query.get("prefix", [""])[0]
            found = "".join(
                f"<Contents><Key>{key}</Key><Size>{len(body)}</Size><ETag>x</ETag></Contents>"
                for key, body in sorted(self.stub.objects.items())
                if key.startswith(prefix)
            )
            self._answer(200, f"<ListBucketResult>{found}<IsTruncated>false</IsTruncated></ListBucketResult>")
        elif path in self.stub.objects:
            self._answer(200, self.stub.objects[path], ETag=_etag(self.stub.objects[path]))
        else:
            self._fail(404, "NoSuchKey", "")

    def do_PUT(self) -> None:
        path, _ = self._note()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._is_foreign():
            return
        if self.stub.failing and self.stub.failing in path:
            self._fail(400, "InvalidRequest", escape(body.decode("latin-1")))
            return
        with self.stub.lock:
            held = _etag(self.stub.objects[path]) if path in self.stub.objects else None
            if (self.headers.get("If-None-Match") and held) or self.headers.get("If-Match", held) != held:
                self._fail(412, "PreconditionFailed", "")
                return
            self.stub.objects[path] = body
        asked = self.headers.get("x-amz-server-side-encryption")
        more = {"x-amz-server-side-encryption": asked} if asked and self.stub.encrypts else {}
        self._answer(200, b"", ETag=_etag(body), **more)

    def _note(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        self.stub.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        return unquote(parts.path).removeprefix("/catalogs").removeprefix("/"), parse_qs(parts.query)

    def _is_foreign(self) -> bool:
        if self.headers.get("x-amz-expected-bucket-owner", OWNER) == OWNER:
            return False
        self._fail(403, "AccessDenied", "Access Denied")
        return True

    def _fail(self, status: int, code: str, message: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>")

    def _answer(self, status: int, body: str | bytes, **headers: str) -> None:
        raw = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def running_s3_stub() -> Iterator[S3Stub]:
    """The server on a free loopback port; stopped at the end."""
    stub = S3Stub()
    handler = type("Handler", (_Handler,), {"stub": stub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        stub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()


def _etag(body: bytes) -> str:
    return f'"{md5(body, usedforsecurity=False).hexdigest()}"'
