"""What the doctor finds wrong, against a real service and a real store; and that it leaves both as they were."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import boto3
import pytest
from botocore.stub import Stubber
from prefect.settings import PREFECT_API_URL, temporary_settings

from ahi_catalog.cli.main import run
from ahi_catalog.connectors.catalog import open_store
from ahi_catalog.connectors.errors import ConflictError
from ahi_catalog.connectors.phi_key import VARIABLE
from ahi_catalog.connectors.settings import Quota
from ahi_catalog.connectors.storage import MemoryStore
from ahi_catalog.doctor import Check, Verdict, examine
from ahi_catalog.doctor.account import check_quota
from ahi_catalog.doctor.storage import PROBE_KEY, check_conditional_writes, check_encryption
from tests.support.event_queue import EventQueue
from tests.support.s3_server import READER_KEY, READER_SECRET
from tests.support.world import TODAY, World

MakeWorld = Callable[..., World]


def findings(world: World, **changes: str) -> dict[str, Check]:
    settings = replace(world.settings, **changes)  # type: ignore[arg-type]  # both are text
    return {check.name: check for check in examine(settings, clock=world.service.now)}


def verdicts(found: dict[str, Check]) -> dict[str, str]:
    return {name: str(check.verdict) for name, check in found.items()}


def test_all_is_well_where_all_is_there(world: World, s3_url: str) -> None:
    """On a service and a store that work, nothing is to be fixed, and no image set is read."""
    world.fill(20)
    found = findings(world, catalog=s3_url)
    assert verdicts(found) == {
        "credentials": "ok",
        "region": "note",
        "clock": "ok",
        "data store": "ok",
        "SearchImageSets": "ok",
        "GetImageSet": "ok",
        "quota": "note",
        "storage": "ok",
        "catalog": "note",
        "conditional writes": "ok",
        "encryption": "note",
    }
    assert "active, created 2024-01-01" in found["data store"].says


@pytest.mark.parametrize("operation", ["SearchImageSets", "GetImageSet"])
def test_a_missing_permission_is_named(make_world: MakeWorld, operation: str) -> None:
    """The operation that is denied has a line that names the permission to give; the others are fine."""
    found = findings(make_world(denied=frozenset({operation})))
    assert f"allow medical-imaging:{operation}" in found[operation].says
    assert [name for name, check in found.items() if check.verdict is Verdict.FIX] == [operation]


def test_get_datastore_is_no_must(make_world: MakeWorld) -> None:
    """Without GetDatastore a sync works when it is told where to start."""
    found = findings(make_world(denied=frozenset({"GetDatastore"})))
    assert found["data store"].verdict is Verdict.NOTE
    assert "`start`" in found["data store"].says


def test_an_unknown_data_store_is_named(world: World) -> None:
    """The id is to be checked, not the permissions."""
    found = findings(world, datastore_id="f" * 32)
    assert found["data store"].verdict is found["SearchImageSets"].verdict is Verdict.FIX
    assert "check the data store id" in found["data store"].says


@pytest.mark.parametrize(("minutes", "word"), [(10, "behind"), (-10, "ahead of")])
def test_a_wrong_clock_is_told_apart_from_a_right_one(world: World, minutes: int, word: str) -> None:
    """A clock minutes off is to be set, and it says which way."""
    here = TODAY - timedelta(minutes=minutes)
    [clock] = [check for check in examine(world.settings, clock=lambda: here) if check.name == "clock"]
    assert clock.verdict is Verdict.FIX
    assert f"0:10:00 {word}" in clock.says


def test_wrong_keys_are_told_apart_from_missing_ones(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that AWS does not know is for the service to refuse; without any, nothing is asked."""
    world.service.faults.add("unknown_key", next=10)
    assert "check the AWS credentials" in findings(world)["SearchImageSets"].says
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    found = findings(world, catalog="s3://bucket/imaging")
    assert verdicts(found) == {"credentials": "fix", "HealthImaging": "note", "storage": "note"}


def test_a_missing_region_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 makes no client without one."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.delenv("AWS_REGION", raising=False)
    found = findings(world)
    assert found["region"].verdict is Verdict.FIX
    assert "AWS_DEFAULT_REGION" in found["region"].says


def test_a_missing_bucket_and_wrong_keys_of_the_store_are_told(
    world: World, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line each, and no further question to that store."""
    found = findings(world, catalog="s3://no-such-bucket/imaging")
    assert "no such bucket" in found["storage"].says
    assert "conditional writes" not in found
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert "signature does not match" in findings(world, catalog=s3_url)["storage"].says


def test_a_store_that_may_only_be_read_is_told(world: World, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing works, writing is what is missing."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET)
    found = findings(world, catalog=s3_url)
    assert found["storage"].verdict is Verdict.OK
    assert found["conditional writes"].verdict is Verdict.FIX
    assert "s3:PutObject" in found["conditional writes"].says


def test_the_key_of_the_pseudonyms_has_to_be_the_catalogs(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a catalog with pseudonyms only: no key and another key are to be fixed; neither is shown."""
    assert "PHI key" not in findings(world)
    monkeypatch.setenv(VARIABLE, "the catalog's own key, of enough characters")
    world.sync(phi="pseudonymize")
    assert findings(world)["PHI key"].verdict is Verdict.OK
    other = tmp_path / "key"
    other.write_text("another key, which has as many characters")
    found = findings(world, phi_key_from=f"file:{other}")["PHI key"]
    assert found.verdict is Verdict.FIX
    assert not any(word in found.says for word in ("characters", "own key"))
    monkeypatch.delenv(VARIABLE)
    missing = findings(world)["PHI key"]
    assert (missing.verdict, VARIABLE in missing.says) == (Verdict.FIX, True)


def test_a_queue_is_looked_at_and_nothing_is_received(world: World, event_queue: EventQueue) -> None:
    """Without a dead-letter queue it says so; one that is not there is to be fixed; messages keep their deliveries."""
    event_queue.tell("Image Set Created", world.datastore_id, "0" * 32)
    found = findings(world, queue=event_queue.url)["queue"]
    assert (found.verdict, "no dead-letter queue" in found.says) == (Verdict.NOTE, True)
    client = boto3.client("sqs")
    dead = client.create_queue(QueueName="dead")["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
    attributes = {"RedrivePolicy": redrive, "VisibilityTimeout": "300"}
    client.set_queue_attributes(QueueUrl=event_queue.url, Attributes=attributes)
    found = findings(world, queue=event_queue.url)["queue"]
    assert (found.verdict, found.says) == (
        Verdict.OK,
        "1 messages wait, 1 deliveries before the dead-letter queue; encrypted by SQS",
    )
    assert len(client.receive_message(QueueUrl=event_queue.url)["Messages"]) == 1
    found = findings(world, queue=f"{event_queue.url}-x")["queue"]
    assert (found.verdict, "no such queue" in found.says) == (Verdict.FIX, True)


def test_the_doctor_leaves_one_object(s3_url: str) -> None:
    """Probing again and again writes the same object, and no partition or state."""
    store = open_store(s3_url)
    for _ in range(2):
        assert check_conditional_writes(store).verdict is Verdict.OK
    assert [entry.key for entry in store.entries("")] == [PROBE_KEY]


class Forgetful(MemoryStore):
    """A store that ignores one of the two conditions."""

    def __init__(self, ignores: str) -> None:
        super().__init__()
        self._ignores = ignores

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        try:
            return super().put(key, body, expected=expected)
        except ConflictError:
            if (expected is None) is not (self._ignores == "If-None-Match"):
                raise
        found = self.get(key)
        return super().put(key, body, expected=found.etag if found else None)


@pytest.mark.parametrize("ignores", ["If-None-Match", "If-Match"])
def test_a_store_that_only_pretends_is_found_out(ignores: str) -> None:
    """A condition that is ignored is named."""
    found = check_conditional_writes(Forgetful(ignores))
    assert found.verdict is Verdict.FIX
    assert f"ignores {ignores}" in found.says


@pytest.mark.parametrize(
    ("head", "is_aws", "verdict"),
    [
        ({"ServerSideEncryption": "AES256"}, True, Verdict.OK),
        ({"ServerSideEncryption": "aws:kms"}, True, Verdict.OK),
        ({}, True, Verdict.FIX),
        ({}, False, Verdict.NOTE),
    ],
)
def test_encryption_is_as_the_store_says(head: dict[str, str], is_aws: bool, verdict: Verdict) -> None:  # noqa: FBT001
    """Amazon's store has to encrypt; another may not say."""
    client = boto3.client("s3")
    with Stubber(client) as stubber:
        stubber.add_response("head_object", head)
        assert check_encryption(client, "bucket", PROBE_KEY, is_aws=is_aws).verdict is verdict


@pytest.mark.parametrize(("rate", "verdict"), [(25.0, Verdict.OK), (100.0, Verdict.FIX)])
def test_a_rate_above_the_quota_is_to_be_lowered(rate: float, verdict: Verdict) -> None:
    """The account's quota, where it may be read, bounds `rate`."""
    client = boto3.client("service-quotas")
    quotas = [{"QuotaName": "Maximum SearchImageSets requests", "Value": 50.0}, {"QuotaName": "Other", "Value": 1.0}]
    with Stubber(client) as stubber:
        stubber.add_response("list_service_quotas", {"Quotas": quotas})
        assert check_quota(client, Quota(rate=rate)).verdict is verdict


def test_a_quota_that_may_not_be_read_is_no_must() -> None:
    """The permission that would show it is named."""
    client = boto3.client("service-quotas")
    with Stubber(client) as stubber:
        stubber.add_client_error("list_service_quotas", "AccessDeniedException")
        check = check_quota(client, Quota())
    assert check.verdict is Verdict.NOTE
    assert "servicequotas:ListServiceQuotas" in check.says


def test_the_command_ends_with_1_where_something_must_be_fixed(
    make_world: MakeWorld, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line each with a mark and a word, folded to the terminal; as JSON for machines; code 0 where all is well."""
    monkeypatch.setenv("COLUMNS", "80")
    world = make_world(denied=frozenset({"GetImageSet"}))
    world.service.clock.unfreeze()
    world.service.clock.offset *= 0
    arguments = ["doctor", "--catalog", str(world.catalog), "--datastore-id", world.datastore_id, "--no-prefect"]
    assert run(arguments) == 1
    said = capsys.readouterr()
    assert "✗ fix  GetImageSet" in said.out
    assert "✓ ok   SearchImageSets" in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    assert said.err.startswith("1 to fix")
    assert run([*arguments, "--json"]) == 1
    found = {check["name"]: check["verdict"] for check in json.loads(capsys.readouterr().out)}
    assert found["GetImageSet"] == "fix"


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("", [], "runs are plain, without Prefect"),
        ("", ["--prefect"], "runs are flows, each on a temporary server"),
        ("127.0.0.1:4200/api", [], "PREFECT_API_URL begins with http:// or https://"),
        ("127.0.0.1:4200/api", ["--no-prefect"], None),
    ],
)
def test_prefect_is_asked_as_a_run_asks(
    world: World,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    url: str,
    options: list[str],
    says: str | None,
) -> None:
    """Whether runs are flows, and on which server; what would end a flow run is to be fixed, and nothing else."""
    monkeypatch.setenv("PREFECT_API_URL", url)
    arguments = ["doctor", "--catalog", str(world.catalog), "--datastore-id", world.datastore_id, "--json", *options]
    # Prefect is imported by other tests, and has read its variables.
    with temporary_settings({PREFECT_API_URL: url}):
        run(arguments)
    found = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert ("Prefect" in found) is (says is not None)
    if says:
        assert says in found["Prefect"]["says"]
        assert found["Prefect"]["verdict"] == ("fix" if url else "note")


def test_a_healthy_catalog_ends_with_0(world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """After a sync the doctor finds the catalog, and nothing to fix."""
    world.service.clock.unfreeze()
    world.service.clock.offset *= 0
    world.fill(20)
    common = ["--catalog", str(tmp_path / "c"), "--datastore-id", world.datastore_id, "--no-prefect"]
    assert run(["sync", *common, "--rate", "100000"]) == 0
    assert run(["doctor", *common]) == 0
    assert "partitioned by day, data stores: 1" in capsys.readouterr().out
    assert run(["status", "--catalog", str(tmp_path / "c")]) == 0
