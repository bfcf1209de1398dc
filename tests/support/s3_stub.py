"""S3 as far as a catalog uses it, with the answers that SeaweedFS does not give: other owners, regions and refusals.

Objects lie in a dictionary; every request is kept for the test to look at.
"""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

OWNER = "111122223333"
Refusal = tuple[int, str, str]
"""Status, code and what else the error says, as XML; status 0 cuts the connection."""


def no_refusal(method: str, key: str, headers: dict[str, str]) -> Refusal | None:
    """Let everything pass."""
    del method, key, headers
    return None


@dataclass
class S3Stub:
    """A bucket named ``catalogs`` that OWNER owns.

    Attributes:
        failing: Puts of keys with this in them are refused, in an error that quotes the body; empty: none are.
        encrypts: Whether an object is encrypted as the put asks.
        refuse: What to answer to a request instead, by its method, its key and its headers in lower case; HEAD tells
            no code, as S3 has it.
        region: Where the bucket is; requests signed for elsewhere are sent there. Empty: everywhere.
        redirect: The status of that answer: 301, or 400 as where a signature's region is wrong.
        redirects: How many such answers were given.
    """

    endpoint: str = ""
    failing: str = ""
    encrypts: bool = True
    refuse: Callable[[str, str, dict[str, str]], Refusal | None] = no_refusal
    region: str = ""
    redirect: int = 301
    redirects: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)


class _Handler(BaseHTTPRequestHandler):
    stub: S3Stub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, query = self._note()
        if self._is_refused(path):
            return
        if "list-type" in query:
            prefix = query.get("prefix", [""])[0]
            found = "".join(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size><ETag>x</ETag></Contents>"
                for key, body in sorted(self.stub.objects.items())
                if key.startswith(prefix)
            )
            self._answer(200, f"<ListBucketResult>{found}<IsTruncated>false</IsTruncated></ListBucketResult>")
        elif path in self.stub.objects:
            self._answer(200, self.stub.objects[path], ETag=_etag(self.stub.objects[path]))
        else:
            self._fail(404, "NoSuchKey")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        path, _ = self._note()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._is_refused(path):
            return
        if self.stub.failing and self.stub.failing in path:
            self._fail(400, "InvalidRequest", f"<Message>{escape(body.decode('latin-1'))}</Message>")
            return
        with self.stub.lock:
            held = _etag(self.stub.objects[path]) if path in self.stub.objects else None
            if (self.headers.get("If-None-Match") and held) or self.headers.get("If-Match", held) != held:
                self._fail(412, "PreconditionFailed")
                return
            self.stub.objects[path] = body
        asked = self.headers.get("x-amz-server-side-encryption")
        more = {"x-amz-server-side-encryption": asked} if asked and self.stub.encrypts else {}
        self._answer(200, b"", ETag=_etag(body), **more)

    def _note(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        self.stub.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        return unquote(parts.path).removeprefix("/catalogs").removeprefix("/"), parse_qs(parts.query)

    def _is_refused(self, path: str) -> bool:
        """Answer what is not served: of another owner, of another region, or refused by the test."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        signed_for = headers.get("authorization", "").partition("Credential=")[2].split("/")[2:3]
        if headers.get("x-amz-expected-bucket-owner", OWNER) != OWNER:
            self._fail(403, "AccessDenied", "<Message>Access Denied</Message>")
        elif self.stub.region and signed_for != [self.stub.region]:
            self.stub.redirects += 1
            region = {"x-amz-bucket-region": self.stub.region}
            if self.stub.redirect == 301:
                self._fail(301, "PermanentRedirect", **region)
            else:
                told = f"<Region>{self.stub.region}</Region>"
                self._fail(400, "AuthorizationHeaderMalformed", told, **region if self.command == "HEAD" else {})
        elif (refusal := self.stub.refuse(self.command, path, headers)) is not None:
            status, code, more = refusal
            if status:
                self._fail(status, code, more)
            else:
                self.close_connection = True
        else:
            return False
        return True

    def _fail(self, status: int, code: str, more: str = "", **headers: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code>{more}</Error>", **headers)

    def _answer(self, status: int, body: str | bytes, **headers: str) -> None:
        raw = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def running_s3_stub(certificate: Path | None = None) -> Iterator[S3Stub]:
    """The server on a free loopback port; stopped at the end.

    Args:
        certificate: Its own and its key, where it speaks https; of 127.0.0.1.
    """
    stub = S3Stub()
    handler = type("Handler", (_Handler,), {"stub": stub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        stub.endpoint = f"http{'s' * (certificate is not None)}://127.0.0.1:{server.server_address[1]}"
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()


def _etag(body: bytes) -> str:
    return f'"{md5(body, usedforsecurity=False).hexdigest()}"'
