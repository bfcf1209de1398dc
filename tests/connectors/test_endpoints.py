"""The way in and out: https or this machine, the bucket's owner, encryption, and logs without bodies."""

import logging
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from ahi_catalog.connectors import aws_failures
from ahi_catalog.connectors.aws import using
from ahi_catalog.connectors.catalog import open_catalog, open_or_create, open_store
from ahi_catalog.connectors.catalog.querying import run_query
from ahi_catalog.connectors.endpoints import check_endpoint, is_loopback
from ahi_catalog.connectors.errors import StoreError, UsageError
from ahi_catalog.connectors.healthimaging.client import make_client
from ahi_catalog.connectors.settings import S3Access
from tests.support.s3_stub import OWNER, S3Stub, running_s3_stub

ROOT = Path(__file__).parents[2]
ROOMS = ("cli", "connectors", "doctor", "emulator", "flows", "pipeline", "report", "schemas")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Stub]:
    """S3 with owners and encryption."""
    with running_s3_stub() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.endpoint)
        yield running


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1", "http://example.org:9000", "http://localhost.example.org", "ftp://x"]
)
def test_an_endpoint_in_the_clear_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Both ends refuse an endpoint that is not https before anything is sent, and say which variable to set."""
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL_MEDICAL_IMAGING"):
        check_endpoint("Medical Imaging", url)
    if url.startswith("http:"):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", url)
        with pytest.raises(UsageError, match="AWS_ENDPOINT_URL_S3"):
            open_store("s3://bucket/prefix")
        with pytest.raises(UsageError, match="AWS_ENDPOINT_URL_MEDICAL_IMAGING"):
            make_client(connections=1)


@pytest.mark.parametrize("url", ["https://example.org", "http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:2"])
def test_https_and_this_machine_are_let_through(url: str) -> None:
    """https anywhere, plain http to loopback."""
    check_endpoint("S3", url)


def test_loopback_is_told_by_address() -> None:
    """Names are not resolved, so none can lie."""
    hosts = ("localhost", "127.0.0.1", "::1", "127.0.0.1.nip.io", "0.0.0.0", "")  # noqa: S104  # none is bound
    assert [host for host in hosts if is_loopback(host)] == ["localhost", "127.0.0.1", "::1"]


def test_certificate_checks_are_never_switched_off() -> None:
    """No module says `verify=` or its like; what boto3 and Arrow check stays checked."""
    for package in ROOMS:
        for path in (ROOT / package).rglob("*.py"):
            code = path.read_text(encoding="utf-8")
            assert not [word for word in ("verify=", "tls_verify", "CERT_NONE", "check_hostname") if word in code], path


def test_what_stays_on_this_machine_goes_past_proxies(monkeypatch: pytest.MonkeyPatch, stub: S3Stub) -> None:
    """A proxy of the environment gets nothing that is sent to loopback in the clear."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert open_store("s3://catalogs/x").get("k") is None
    assert stub.requests


def test_the_owner_is_expected_on_every_call(stub: S3Stub) -> None:
    """Reading, writing and listing name the account that must own the bucket."""
    store = open_store("s3://catalogs/x", S3Access(bucket_owner=OWNER))
    open_or_create(store, None)
    list(store.entries("image_sets/"))
    assert {method for method, _, _ in stub.requests} == {"GET", "PUT"}
    assert {headers.get("x-amz-expected-bucket-owner") for _, _, headers in stub.requests} == {OWNER}


def test_a_bucket_of_another_account_is_refused(stub: S3Stub) -> None:
    """Nothing is read from it, written to it or queried in it, and the error says what the matter may be."""
    open_or_create(open_store("s3://catalogs/x"), None)
    before = dict(stub.objects)
    store = open_store("s3://catalogs/x", S3Access(bucket_owner="999999999999"))
    for attempt in (
        lambda: store.get("k"),
        lambda: store.put("k", b"", expected=None),
        lambda: list(store.entries("image_sets/")),
        lambda: run_query(open_catalog(store), "select 1"),
    ):
        with pytest.raises(StoreError, match="another account than `bucket_owner` says"):
            attempt()
    assert stub.objects == before


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        (S3Access(kms_key="alias/phi"), ("aws:kms", "alias/phi")),
        (S3Access(sse_s3=True), ("AES256", None)),
        (S3Access(), (None, None)),
    ],
)
def test_objects_are_encrypted_as_asked(
    stub: S3Stub, access: S3Access, expected: tuple[str | None, str | None]
) -> None:
    """Every put says with which key; without an option the bucket's own default holds."""
    open_store("s3://catalogs/x", access).put("k", b"v", expected=None)
    [headers] = [headers for method, _, headers in stub.requests if method == "PUT"]
    prefix = "x-amz-server-side-encryption"
    assert (headers.get(prefix), headers.get(f"{prefix}-aws-kms-key-id")) == expected


def test_a_store_that_does_not_encrypt_is_refused(stub: S3Stub) -> None:
    """A server that takes the header and says nothing of it has not encrypted."""
    stub.encrypts = False
    with pytest.raises(StoreError, match="did not encrypt"):
        open_store("s3://catalogs/x", S3Access(kms_key="k")).put("k", b"v", expected=None)


@pytest.mark.parametrize(
    "make",
    [
        lambda: S3Access(bucket_owner="me"),
        lambda: S3Access(kms_key="k", sse_s3=True),
        lambda: open_store("folder", S3Access(sse_s3=True)),
    ],
)
def test_settings_of_s3_that_make_no_sense_are_refused(make: object) -> None:
    """An owner is an account, one encryption is enough, and a folder has neither."""
    with pytest.raises(UsageError):
        make()  # type: ignore[operator]


def test_bodies_are_logged_at_no_level(stub: S3Stub, caplog: pytest.LogCaptureFixture) -> None:
    """With botocore and urllib3 set to DEBUG, before and after, their loggers say nothing of what was sent."""
    caplog.set_level(logging.DEBUG)
    store = open_store("s3://catalogs/x")
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("botocore", "urllib3")):
            caplog.set_level(logging.DEBUG, logger=name)
    store.put("k", b"Marked^Name", expected=None)
    assert store.get("k")
    assert stub.requests
    assert not [record for record in caplog.records if record.name.startswith(("botocore", "urllib3"))]


def test_codes_of_errors_are_codes() -> None:
    """What a server says in the place of a code is repeated only where it has a code's form."""
    from botocore.exceptions import ClientError  # noqa: PLC0415

    for said, told in (("AccessDenied", "AccessDenied"), ("Marked^Name, 1950", "unknown"), ("a\nb", "unknown")):
        assert aws_failures.error_code(ClientError({"Error": {"Code": said}}, "GetObject")) == told


def test_aws_region_alone_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ECS and login helpers set it, and boto3 does not read it: it counts after boto3's own, before a profile's."""
    config = tmp_path / "config"
    config.write_text("[default]\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_REGION", "ap-southeast-2")
    found = []
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        found.append(make_client(connections=1).meta.region_name)
        monkeypatch.delenv(name)
    found.append(make_client(connections=1).meta.region_name)
    assert found == ["us-east-1", "ap-southeast-2", "eu-west-1"]
    config.write_text("")
    monkeypatch.setenv("AWS_REGION", "ap-southeast-2")
    with using(boto3.Session()):
        assert make_client(connections=1).meta.region_name == "ap-southeast-2"
