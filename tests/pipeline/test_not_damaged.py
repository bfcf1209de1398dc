"""What cannot be read is not damaged: each refusal is told as what it is by every command, and mends nothing."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from ahi_catalog.cli.main import run
from ahi_catalog.connectors import retrying
from ahi_catalog.connectors.catalog import open_store
from ahi_catalog.connectors.errors import StoreError
from ahi_catalog.connectors.settings import S3Access
from tests.support.s3_stub import Refusal, S3Stub, running_s3_stub
from tests.support.world import BORN, World

URL = "s3://catalogs/x"
SLASH, EMR = "/", "_$folder$"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Stub]:
    """S3; tries follow one another at once."""
    monkeypatch.setattr(retrying, "random", SimpleNamespace(uniform=lambda *_: 0.0))
    with running_s3_stub() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.endpoint)
        yield running


@pytest.fixture
def synced(world: World, stub: S3Stub) -> S3Stub:
    """The same with a synced catalog of one day."""
    world.settings = replace(world.settings, catalog=URL)
    world.fill(30)
    world.sync()
    return stub


def jobs(world: World) -> list[Callable[[], object]]:
    """A verify, a repair, and a sync that merges."""
    return [
        world.verify,
        lambda: world.verify(is_repairing=True),
        lambda: world.sync(look_back=timedelta(days=400)),
    ]


def message(text: str) -> str:
    """What an error says beside its code."""
    return f"<Message>{text}</Message>"


def denied(action: str) -> str:
    """As S3 words what KMS denies."""
    role, key = "arn:aws:sts::1:assumed-role/r/s", "arn:aws:kms:us-east-1:1:key/k"
    return message(
        f"User: {role} is not authorized to perform: {action} on resource: {key} because no policy allows it"
    )


ELSEWHERE = "The ciphertext refers to a customer master key that does not exist, or you are not allowed to access."
TOLD: list[tuple[Refusal, str]] = [
    ((403, "AccessDenied", denied("kms:Decrypt")), "KMS denies kms:Decrypt: allow it"),
    ((400, "KMS.DisabledException", message("arn:aws:kms:us-east-1:1:key/k is disabled.")), "is disabled: enable it"),
    ((403, "InvalidObjectState", ""), "in an archive class: restore it"),
    ((403, "AccessDenied", message("Access Denied")), "access denied to s3:GetObject"),
    ((503, "SlowDown", ""), "wants fewer requests at once (SlowDown)"),
    ((0, "", ""), "cannot be reached"),
]
KINDRED: list[tuple[Refusal, str]] = [
    ((403, "AccessDenied", message(ELSEWHERE)), "KMS denies kms:Decrypt: allow it"),
    ((400, "KMS.KMSInvalidStateException", message("is pending deletion")), "cancel its deletion"),
    ((400, "KMS.NotFoundException", ""), "no such KMS key in the bucket's region"),
    ((400, "KMS.InvalidKeyUsageException", ""), "KMS refuses with KMS.InvalidKeyUsageException"),
    ((400, "ThrottlingException", message("Rate exceeded")), "wants fewer requests at once (ThrottlingException)"),
    ((400, "RequestTimeout", ""), "the store answers RequestTimeout"),
    ((500, "InternalError", ""), "the store answers InternalError"),
]


@pytest.mark.parametrize(("refusal", "says"), KINDRED)
def test_a_refusal_of_the_same_kind_has_words_of_its_own(stub: S3Stub, refusal: Refusal, says: str) -> None:
    """Which object, why, and what to do; the server's own text, which may name roles and keys, is not repeated."""
    stub.refuse = lambda *_: refusal
    with pytest.raises(StoreError, match=re.escape(says)) as refused:
        open_store(URL).get("k")
    assert str(refused.value).startswith("s3://catalogs/x/k: ")
    assert "arn:" not in str(refused.value)


@pytest.mark.parametrize(("refusal", "says"), TOLD)
def test_an_object_that_may_not_be_read_is_told_as_what_it_is(
    world: World, synced: S3Stub, refusal: Refusal, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In status, query, verify, repair and a sync's merge: which object, why, what to do; nothing is written."""
    before = {key: body for key, body in synced.objects.items() if "image_sets/" in key}
    synced.refuse = lambda method, key, _: refusal if method == "GET" and "image_sets/" in key else None
    told: list[str] = []
    for command in (["status"], ["query", "select count(*), max(patient_id) from image_sets"]):
        capsys.readouterr()
        assert run([*command, "--catalog", URL]) == 1
        [line] = capsys.readouterr().err.splitlines()
        told.append(line)
    for job in jobs(world):
        with pytest.raises(StoreError) as failed:
            job()
        told.append(str(failed.value))
    for line in told:
        assert says in line
        assert "image_sets/" in line
        assert not [word for word in ("damage", "repair", "unreadable", "TRY_CAST", "arn:") if word in line]
    assert {key: body for key, body in synced.objects.items() if "image_sets/" in key} == before


@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        ((403, "AccessDenied", denied("kms:GenerateDataKey")), "KMS denies kms:GenerateDataKey: allow it"),
        ((403, "AccessDenied", message("Access Denied")), "access denied .* or to kms:GenerateDataKey of `kms_key`"),
        ((400, "KMS.DisabledException", ""), "is disabled: enable it"),
        ((400, "KMS.NotFoundException", ""), "check `kms_key` and the bucket's default encryption"),
    ],
)
def test_a_put_that_kms_refuses_asks_for_what_is_missing(stub: S3Stub, refusal: Refusal, says: str) -> None:
    """What the role has already is not asked for; the key's ARN and the role's are not repeated."""
    stub.refuse = lambda method, *_: refusal if method == "PUT" else None
    with pytest.raises(StoreError, match=says) as refused:
        open_store(URL, S3Access(kms_key="alias/phi")).put("k", b"v", expected=None)
    assert "kms:Decrypt" not in str(refused.value)
    assert "arn:" not in str(refused.value)


def test_an_upload_that_is_too_slow_or_too_fast_is_repeated(stub: S3Stub) -> None:
    """S3 answers 400 to both, which is final for any other reason."""
    left = [(400, "RequestTimeout", ""), (400, "ThrottlingException", message("Rate exceeded"))]
    stub.refuse = lambda method, *_: left.pop() if method == "PUT" and left else None
    assert open_store(URL).put("k", b"v", expected=None)
    assert stub.objects["x/k"] == b"v"


def test_an_object_that_is_gone_after_the_listing_is_no_damage(
    world: World, synced: S3Stub, capsys: pytest.CaptureFixture[str]
) -> None:
    """Readers say that it is gone, and a verify counts its rows as missing and mends them."""
    [gone] = [key for key in synced.objects if "image_sets/" in key]
    synced.refuse = lambda method, key, _: (404, "NoSuchKey", "") if (method, key) == ("GET", gone) else None
    for command in (["status"], ["query", "from image_sets"]):
        capsys.readouterr()
        assert run([*command, "--catalog", URL]) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert "is listed and not there when it is read" in line
    report = world.verify()
    assert report.verification is not None
    assert [str(kind) for kind in report.verification.totals] == ["missing"]


@pytest.mark.parametrize("kind", ["s3", "folder"])
def test_folder_markers_are_left_out(
    world: World, synced: S3Stub, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What consoles, EMR and s3fs leave for a folder is no object; with bytes in it, it is a foreign one."""
    store = f"image_sets/datastore_id={world.datastore_id}"
    names = ["image_sets", store, f"{store}/created_date=2024-01-01", f"{store}/created_date=2023-01-01", "_state"]
    place: Callable[[str, bytes], object]
    ends: list[str]
    if kind == "s3":
        ends, url, place = [SLASH, EMR], URL, lambda key, body: synced.objects.update({f"x/{key}": body})
    else:
        # Where a bucket is copied into a folder, only names that do not end in a slash become files.
        ends, url, place = [EMR], str(world.catalog), lambda key, body: (world.catalog / key).write_bytes(body)
        world.sync(catalog=url)
    for name in names:
        for end in ends:
            place(f"{name}{end}", b"")
    for command in (["status"], ["query", "select count(*) as n from image_sets"]):
        assert run([*command, "--catalog", url]) == 0, capsys.readouterr()
    assert "30" in capsys.readouterr().out
    report = world.verify(settings=replace(world.settings, catalog=url), is_repairing=True)
    assert report.verification is not None
    assert not report.verification.totals
    assert world.backfill(BORN, BORN + timedelta(days=1), catalog=url).new == 0
    place(f"{store}/notes{EMR}", b"rows")
    assert run(["status", "--catalog", url]) == 1
    assert "none of the catalog's" in capsys.readouterr().out


def test_a_file_that_cannot_be_read_is_no_damage(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """In a folder too: what a failing disk says is told, by readers, a repair and a merge, and nothing is mended."""
    world.fill(3)
    world.sync()
    target = world.object(BORN.date())
    target.unlink()
    target.symlink_to("/proc/self/mem")  # a file whose first byte is an input/output error, for root too
    told: list[str] = []
    for command in (["status"], ["query", "select count(*), max(patient_id) from image_sets"]):
        capsys.readouterr()
        assert run([*command, "--catalog", str(world.catalog)]) == 1
        told.append(capsys.readouterr().err)
    for job in jobs(world):
        with pytest.raises(StoreError) as failed:
            job()
        told.append(str(failed.value))
    for line in told:
        assert "cannot read image_sets/" in line
        assert "Input/output error" in line
        assert not [word for word in ("damage", "repair", "unreadable", "TRY_CAST") if word in line]
