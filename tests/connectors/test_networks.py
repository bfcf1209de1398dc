"""Where buckets and endpoints are: regions, private CAs, proxies, VPC endpoints, sessions, other vendors' stores."""

import copy
import re
import select
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from ahi_catalog.cli.main import run
from ahi_catalog.connectors import retrying
from ahi_catalog.connectors.catalog import open_catalog, open_or_create, open_store, reading
from ahi_catalog.connectors.errors import AhiCatalogError, StoreError, UsageError
from ahi_catalog.connectors.events import open_queue
from ahi_catalog.connectors.glue import register
from ahi_catalog.connectors.glue.registering import open_glue
from ahi_catalog.connectors.healthimaging.client import make_client
from ahi_catalog.connectors.phi_key import load_phi_key
from ahi_catalog.connectors.settings import S3Access
from ahi_catalog.connectors.storage import s3
from tests.connectors.glue.test_registering import TABLE
from tests.report.conftest import publish_rows, row
from tests.support.certificates import make_certificate
from tests.support.s3_stub import Refusal, S3Stub, running_s3_stub
from tests.support.world import World

URL = "s3://catalogs/x"
COUNT = "select count(*) as n from image_sets"


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow one another at once."""
    monkeypatch.setattr(retrying, "random", SimpleNamespace(uniform=lambda *_: 0.0))


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Stub]:
    """S3, with boto3 pointed at it."""
    with running_s3_stub() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.endpoint)
        yield running


@pytest.mark.parametrize("redirect", [301, 400])
def test_a_bucket_in_another_region_is_found(stub: S3Stub, redirect: int) -> None:
    """Whatever S3 answers to a signature for elsewhere, reads, writes, listings and HEAD work; a client asks once."""
    stub.region, stub.redirect = "eu-central-1", redirect
    assert written_and_read() == 12
    before = stub.redirects
    assert len(open_catalog(open_store(URL)).datastore_ids()) == 1
    assert stub.redirects == before + 1
    assert s3.make_client(connections=1).head_object(Bucket="catalogs", Key="x/_state/catalog.json")["ETag"]


@pytest.mark.usefixtures("glue_endpoint")
def test_every_command_works_on_a_bucket_in_another_region(
    world: World, stub: S3Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    """HealthImaging is asked in its region, the bucket in its own, with one AWS_DEFAULT_REGION."""
    world.fill(30)
    stub.region = "eu-central-1"
    world.sync(catalog=URL)
    report = world.verify(settings=replace(world.settings, catalog=URL), is_repairing=True)
    assert report.verification is not None
    assert not report.verification.totals
    for command in (["status"], ["query", COUNT], ["register", "--database", "imaging"]):
        assert run([*command, "--catalog", URL]) == 0, command
        assert not capsys.readouterr().err.startswith("Error")


def test_an_endpoint_of_another_region_is_told(stub: S3Stub) -> None:
    """Where the endpoint that is set cannot lead to the bucket, one line says so, and blames no data."""
    stub.region = "eu-central-1"
    stub.refuse = lambda *_: (301, "PermanentRedirect", "")
    with pytest.raises(StoreError, match=r"another region than the one that is asked: check .* AWS_ENDPOINT_URL_S3"):
        open_store(URL).get("k")


@pytest.mark.parametrize("where", ["environment", "profile"])
def test_a_private_ca_is_trusted_for_reading_and_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """AWS_CA_BUNDLE, or `ca_bundle` of a profile, holds for writes, listings, datasets and queries alike."""
    certificate = make_certificate(tmp_path)
    if where == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    else:
        configure(monkeypatch, tmp_path, f"ca_bundle = {certificate}")
    with running_s3_stub(certificate) as stub:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", stub.endpoint)
        assert written_and_read() == 12


def configure(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    """The user's AWS configuration."""
    path = folder / "config"
    path.write_text(f"[default]\n{text}\n", encoding="utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))


def written_and_read() -> int:
    """Write a catalog, and count its rows in three ways."""
    publish_rows(URL, [row(number) for number in range(12)])
    catalog = reading.Catalog(URL)
    [counted] = catalog.query(COUNT).arrow().to_pylist()
    [summary] = catalog.status()
    assert not summary.problems
    assert counted["n"] == summary.rows == len(catalog.dataset().to_table())
    return summary.rows


@contextmanager
def running_proxy(port: int) -> Iterator[tuple[str, list[str]]]:
    """A proxy that lets every CONNECT lead to a port of this machine; its URL, and the hosts that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.path)
            self.send_response_only(200)
            self.end_headers()
            with socket.create_connection(("127.0.0.1", port)) as far:
                ways = {self.connection: far, far: self.connection}
                while True:
                    for side in select.select([*ways], [], [])[0]:
                        if not (held := side.recv(1 << 16)):
                            return
                        ways[side].sendall(held)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()


def test_a_proxy_is_used_for_reading_and_writing_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS_PROXY leads out, also where only the proxy knows the endpoint's name; NO_PROXY and loopback do not."""
    certificate = make_certificate(tmp_path, "s3.hospital.example")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    with running_s3_stub(certificate) as stub:
        port = stub.endpoint.rpartition(":")[2]
        with running_proxy(int(port)) as (proxy, asked):
            monkeypatch.setenv("HTTPS_PROXY", proxy)
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.hospital.example")
            assert written_and_read() == 12
            assert set(asked) == {"s3.hospital.example:443"}
            asked.clear()
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", stub.endpoint)
            assert open_store(URL).get("_state/catalog.json")
            assert not asked
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.hospital.example")
            monkeypatch.setenv("NO_PROXY", "hospital.example")
            with pytest.raises(StoreError, match="cannot be reached"):
                open_store(URL).get("k")
            assert not asked


class _Page(BaseHTTPRequestHandler):
    """What a proxy says of itself to everything, in no encoding that botocore expects."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.send_response(403)
        self.end_headers()
        self.wfile.write("<html>Zugriff verweigert für alle".encode("latin-1"))

    do_GET = do_POST = _answer  # noqa: N815  # as http.server names them

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("variable", "ask"),
    [
        ("AWS_ENDPOINT_URL_GLUE", lambda: register(open_glue(), TABLE)),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", lambda: load_phi_key("aws-secret:phi")),
        ("AWS_ENDPOINT_URL_SQS", lambda: open_queue("https://sqs.us-east-1.amazonaws.com/1/q").receive(0, Event())),
        ("AWS_ENDPOINT_URL_S3", lambda: open_store(URL).get("k")),
    ],
    ids=["Glue", "Secrets Manager", "SQS", "S3"],
)
def test_a_page_of_a_proxy_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, variable: str, ask: Callable[[], object]
) -> None:
    """One line, without the page; S3's XML parser takes it for a refusal without a code."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv(variable, f"http://127.0.0.1:{server.server_address[1]}")
        with pytest.raises(AhiCatalogError) as failed:
            ask()
        server.shutdown()
        thread.join()
    assert "cannot be read" in str(failed.value) or "denied" in str(failed.value)
    assert "verweigert" not in str(failed.value)


AWS = "us-east-1.amazonaws.com"
VPCE = "us-east-1.vpce.amazonaws.com"
IMAGING = "AWS_ENDPOINT_URL_MEDICAL_IMAGING"


def answered_by(client: Any, service: str, *asks: Callable[[], object]) -> list[str]:
    """The hosts and paths that requests go to; they are not sent."""
    urls: list[str] = []

    def keep(request: Any, **_: Any) -> None:
        urls.append(request.url.removeprefix("https://").partition("?")[0])
        raise EndpointConnectionError(endpoint_url="kept")

    client.meta.events.register(f"before-send.{service}", keep)
    for ask in asks:
        with pytest.raises((EndpointConnectionError, StoreError)):
            ask()
    return urls


@pytest.mark.parametrize(
    ("environment", "configured", "expected"),
    [
        ({}, "", "catalogs.s3.amazonaws.com/x/k"),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "", f"catalogs.s3-fips.{AWS}/x/k"),
        ({}, "use_fips_endpoint = true", f"catalogs.s3-fips.{AWS}/x/k"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "", f"catalogs.s3.dualstack.{AWS}/x/k"),
        (
            {"AWS_ENDPOINT_URL_S3": f"https://bucket.vpce-1-2.s3.{VPCE}"},
            "",
            f"bucket.vpce-1-2.s3.{VPCE}/catalogs/x/k",
        ),
        ({"AWS_ENDPOINT_URL_S3": "https://s3.example"}, "", "s3.example/catalogs/x/k"),
        ({"AWS_ENDPOINT_URL_S3": "https://amazonaws.com.example"}, "", "amazonaws.com.example/catalogs/x/k"),
        (
            {"AWS_ENDPOINT_URL_S3": "https://s3.example"},
            "s3 =\n  addressing_style = virtual",
            "catalogs.s3.example/x/k",
        ),
        ({}, "s3 =\n  addressing_style = path", "s3.amazonaws.com/catalogs/x/k"),
        ({}, "endpoint_url = https://s3.example", "s3.example/catalogs/x/k"),
    ],
)
def test_objects_are_read_and_written_where_boto3_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], configured: str, expected: str
) -> None:
    """VPC endpoints, FIPS, dual stack and the addressing style of the user's configuration hold for either way."""
    configure(monkeypatch, tmp_path, configured)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    store = s3.open_s3_store("catalogs", "x")
    asked = answered_by(
        store._client, "s3", lambda: store.get_part("k", 0, 1), lambda: store.put("k", b"", expected=None)
    )
    assert set(asked) == {expected}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, f"runtime-medical-imaging.{AWS}"),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, f"runtime-medical-imaging-fips.{AWS}"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "runtime-medical-imaging.us-east-1.api.aws"),
        ({IMAGING: f"https://medical-imaging.{AWS}"}, f"runtime-medical-imaging.{AWS}"),
        ({IMAGING: f"https://runtime-medical-imaging.{AWS}"}, f"runtime-medical-imaging.{AWS}"),
        ({IMAGING: f"https://vpce-1-2.medical-imaging.{VPCE}"}, f"vpce-1-2.medical-imaging.{VPCE}"),
        ({IMAGING: f"https://vpce-1-2.runtime-medical-imaging.{VPCE}"}, f"vpce-1-2.runtime-medical-imaging.{VPCE}"),
        ({IMAGING: "https://imaging.example"}, "imaging.example"),
    ],
)
def test_an_endpoint_that_has_a_name_of_its_own_keeps_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: str
) -> None:
    """`runtime-` stands before the region's own name of HealthImaging and before no other."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    client: Any = make_client(connections=1)
    ask = partial(client.get_image_set, datastoreId="0" * 32, imageSetId="0" * 32)
    assert [each.partition("/")[0] for each in answered_by(client, "medical-imaging", ask)] == [expected]


def test_credentials_that_are_renewed_are_used_by_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stub: S3Stub
) -> None:
    """A notebook's dataset and catalog outlive the session with which they were opened."""
    publish_rows(URL, [row(number) for number in range(12)])
    script, calls = tmp_path / "login.py", tmp_path / "calls"
    script.write_text(
        "import datetime as dt, json, pathlib\n"
        f"calls = pathlib.Path({str(calls)!r})\n"
        "calls.write_text((calls.read_text() if calls.exists() else '') + '.')\n"
        "soon = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'KEY{len(calls.read_text())}', 'SecretAccessKey': 's',"
        " 'SessionToken': 't', 'Expiration': soon.isoformat()}))\n",
        encoding="utf-8",
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    configure(monkeypatch, tmp_path, f"credential_process = {sys.executable} {script}")
    catalog = reading.Catalog(URL)
    dataset = catalog.dataset()
    used: list[set[str]] = []
    for _ in range(2):
        stub.requests.clear()
        assert len(dataset.to_table()) == dataset.count_rows() == len(catalog.query("from image_sets").arrow()) == 12
        used.append(
            {headers["authorization"].partition("Credential=")[2].split("/")[0] for *_, headers in stub.requests}
        )
    assert not used[0] & used[1]


def refusing(named: str | tuple[str, ...], refusal: Refusal) -> Callable[[str, str, dict[str, str]], Refusal | None]:
    """Refuse requests with a header of such a name."""
    return lambda _method, _key, headers: refusal if any(name.startswith(named) for name in headers) else None


@pytest.mark.parametrize(
    ("scheme", "refusal"), [("http", (501, "NotImplemented", "")), ("https", (400, "InvalidArgument", ""))]
)
def test_a_store_that_knows_no_checksums_holds_a_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, refusal: Refusal
) -> None:
    """None of the headers that boto3 adds since 1.36 is sent to stores that are not Amazon's; bodies are signed."""
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    with running_s3_stub(certificate if scheme == "https" else None) as stub:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", stub.endpoint)
        stub.refuse = refusing(("x-amz-checksum", "x-amz-sdk-checksum", "x-amz-trailer", "content-encoding"), refusal)
        assert written_and_read() == 12
        signed = [headers["x-amz-content-sha256"] for method, _, headers in stub.requests if method == "PUT"]
        assert signed
        assert all(re.fullmatch("[0-9a-f]{64}", each) for each in signed)


@pytest.mark.parametrize(
    ("named", "refusal", "access", "says"),
    [
        ("if-none-match", (501, "NotImplemented", ""), S3Access(), "does not know conditional writes; use a store"),
        ("if-match", (501, "NotImplemented", ""), S3Access(), "does not know conditional writes; use a store"),
        (
            "if-none-match",
            (501, "NotImplemented", "<Header>If-None-Match</Header>"),
            S3Access(sse_s3=True),
            "does not know conditional writes; use a store",
        ),
        ("if-none-match", (400, "InvalidArgument", ""), S3Access(), "refuses a put with InvalidArgument: if its cond"),
        (
            "x-amz-server-side-encryption",
            (501, "NotImplemented", "<Header>x-amz-server-side-encryption</Header>"),
            S3Access(sse_s3=True),
            "does not know the encryption that `kms_key` or `sse_s3` asks for",
        ),
    ],
)
def test_what_a_store_does_not_know_is_told(
    stub: S3Stub, named: str, refusal: Refusal, access: S3Access, says: str
) -> None:
    """A store without conditional writes is told from one without encryption; no catalog is made in either."""
    stub.refuse = refusing(named, refusal)
    with pytest.raises(StoreError, match=says) as refused:
        open_or_create(open_store(URL, access), None)
    assert "\n" not in str(refused.value)
    assert "x/_state/catalog.json" not in stub.objects


def test_plain_http_off_this_machine_takes_a_switch(
    monkeypatch: pytest.MonkeyPatch, stub: S3Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--allow-http` lets another container's store be used, by notebooks and Dask workers too; without it none is."""
    publish_rows(URL, [row(number) for number in range(12)])
    # Where names are known to a proxy only, the stub is that proxy.
    monkeypatch.setenv("HTTP_PROXY", stub.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://minio:9000")
    stub.requests.clear()
    with pytest.raises(UsageError, match="accept that with `allow_http`"):
        open_store(URL)
    assert run(["status", "--catalog", URL]) == 2
    assert "accept that with --allow-http" in capsys.readouterr().err
    assert not stub.requests
    assert run(["status", "--catalog", URL, "--allow-http"]) == 0
    assert len(reading.Catalog(URL, allow_http=True).dataset().to_table()) == 12
    elsewhere = copy.copy(open_store(URL, S3Access(allow_http=True)))  # by way of `__reduce__`, as Dask does it
    assert elsewhere.get("_state/catalog.json")
    monkeypatch.setenv(IMAGING, "http://emulator:8080")
    assert make_client(connections=1, allow_http=True)
    with pytest.raises(UsageError, match="accept that with `allow_http`"):
        make_client(connections=1)
    assert open_store("folder", S3Access(allow_http=True))
    monkeypatch.setenv("AWS_ENDPOINT_URL_GLUE", "http://localstack:4566")
    with pytest.raises(UsageError, match="is not https") as refused:
        open_glue()
    assert "allow_http" not in str(refused.value)  # which is for S3 and HealthImaging


@pytest.mark.parametrize(
    "url",
    [f"http://medical-imaging.{AWS}", f"http://vpce-1-2.medical-imaging.{VPCE}", "http://medical-imaging.x.api.aws"],
)
def test_plain_http_to_aws_is_refused_whatever_is_allowed(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """AWS has https everywhere, so nothing is sent in the clear to it, by either client."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    for make in (partial(make_client, connections=1), partial(s3.make_client, connections=1)):
        with pytest.raises(UsageError, match="is not https") as refused:
            make(allow_http=True)
        assert "allow_http" not in str(refused.value)
