"""The IAM policy against the calls that the tool makes: nothing missing, nothing superfluous."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

import boto3
import pytest
from pyiceberg import catalog as pyiceberg
from pyiceberg.utils.config import Config

from ahi_catalog.cli.main import run
from ahi_catalog.connectors.catalog import open_catalog, open_store
from ahi_catalog.connectors.catalog.querying import run_query
from ahi_catalog.connectors.catalog.verification import Finding
from ahi_catalog.connectors.iam import CALLS, Place, policy
from ahi_catalog.connectors.settings import MetadataOptions, S3Access
from ahi_catalog.doctor.queue import check_queue
from ahi_catalog.pipeline import inbox
from ahi_catalog.pipeline.executors import open_threads
from ahi_catalog.pipeline.iceberg import Request, find_iceberg, mirror_tables
from ahi_catalog.pipeline.metadata import read_metadata
from tests.support.event_queue import EventQueue
from tests.support.secrets_stub import running_secrets_stub
from tests.support.world import World

KEY = "0123456789abcdef" * 4
ID = "0" * 31 + "a"
Call = tuple[str, dict[str, Any]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Every call of every boto3 client made in the test: service and operation, and its parameters."""
    recorded: list[Call] = []
    make = boto3.Session.client

    def recording(self: boto3.Session, *args: Any, **more: Any) -> Any:
        client = make(self, *args, **more)

        def record(params: dict[str, Any], model: Any, **_: Any) -> None:
            name = f"{model.service_model.service_name}:{model.name}"
            if (name, params) not in recorded:
                recorded.append((name, dict(params)))

        client.meta.events.register("provide-client-params", record)
        return client

    monkeypatch.setattr(boto3.Session, "client", recording)
    return recorded


def resources_of(call: str, params: dict[str, Any]) -> list[str]:
    """The ARNs that a call needs its action on, by the service authorization reference."""
    if call.startswith("s3:"):
        return [f"arn:aws:s3:::{params['Bucket']}" + (f"/{params['Key']}" if "Key" in params else "")]
    if call.startswith("secretsmanager:"):
        return [f"arn:aws:secretsmanager:us-east-1:*:secret:{params['SecretId']}-a1b2c3"]
    datastore = f"arn:aws:medical-imaging:us-east-1:*:datastore/{params['datastoreId']}"
    return [datastore, *([f"{datastore}/imageset/{params['imageSetId']}"] if "imageSetId" in params else [])]


def allows(statement: dict[str, Any], action: str, resource: str, params: dict[str, Any]) -> bool:
    prefixes = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix", ["*"])
    return (
        action in statement["Action"]
        and any(fnmatchcase(resource, allowed) for allowed in statement["Resource"])
        and any(fnmatchcase(params.get("Prefix", ""), allowed) for allowed in prefixes)
    )


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The PHI key in AWS Secrets Manager."""
    with running_secrets_stub() as (endpoint, answers):
        answers.append((200, json.dumps({"SecretString": KEY}).encode()))
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint)
        yield


def do_sync(world: World, url: str) -> None:
    """A first sync, and one that finds an image set deleted in its look-back."""
    settings: dict[str, Any] = {"phi": "pseudonymize", "phi_key_from": "aws-secret:hospital/phi"}
    world.sync(catalog=url, **settings)
    world.service.delete(world.datastore_id, "a0000009".rjust(32, "0"))
    assert world.sync(catalog=url, look_back=timedelta(days=300), **settings).removed == 1


def do_verify(world: World, url: str) -> None:
    """Everything read again, and what it misses confirmed and mended."""
    world.service.delete(world.datastore_id, "a0000008".rjust(32, "0"))
    settings = replace(world.settings, catalog=url, phi_key_from="aws-secret:hospital/phi")
    report = world.verify(settings=settings, is_repairing=True)
    assert report.verification is not None
    assert report.verification.totals == {Finding.DELETED: 1}


def do_metadata(world: World, url: str) -> None:
    """The series of what was synced, though it was not touched for long."""
    settings = replace(world.settings, catalog=url, phi_key_from="aws-secret:hospital/phi")
    settings = replace(settings, metadata=MetadataOptions(archived=True))
    with open_threads(2) as executor:
        report = read_metadata(settings, executor, threading.Event(), clock=world.service.now)
    assert report.new == 29


def do_query(world: World, url: str) -> None:
    """A question to the catalog."""
    del world
    assert len(run_query(open_catalog(open_store(url)), "from image_sets")) > 0


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(
    ("job", "before", "work"),
    [
        ("sync", [], do_sync),
        ("verify", [do_sync], do_verify),
        ("metadata", [do_sync], do_metadata),
        ("query", [do_sync], do_query),
    ],
)
def test_the_policy_is_what_is_called(  # noqa: PLR0917
    world: World,
    s3_url: str,
    calls: list[Call],
    job: str,
    before: list[Callable[[World, str], None]],
    work: Callable[[World, str], None],
) -> None:
    """Each call is allowed on its own resources, and no action is allowed that is not called."""
    world.fill(30)
    for earlier in before:
        earlier(world, s3_url)
    calls.clear()
    work(world, s3_url)
    bucket, _, prefix = s3_url.removeprefix("s3://").partition("/")
    place = Place(
        bucket=bucket, prefix=prefix, datastore_ids=(world.datastore_id,), region="us-east-1", secret="hospital/phi"
    )
    statements = policy([job], place)["Statement"]
    used = set()
    for call, params in calls:
        action = "s3:ListBucket" if call == "s3:ListObjectsV2" else call
        for resource in resources_of(call, params):
            allowing = [found["Sid"] for found in statements if allows(found, action, resource, params)]
            assert allowing, f"{job} calls {action} on {resource.partition('/')[0]}, which the policy does not allow"
        used.add(action)
    assert used == {action for found in statements for action in found["Action"]}
    assert {call for call, _ in calls} - {"secretsmanager:GetSecretValue"} == CALLS[job]


def test_the_policy_of_a_queue_is_what_is_called(
    world: World, event_queue: EventQueue, calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync that reads events and deletes them, and the look at the queue before; readers of the catalog need none."""
    monkeypatch.setattr(inbox, "_DRAIN_SECONDS", 0)
    event_queue.tell("Image Set Created", world.datastore_id, "0" * 32)
    world.sync(queue=event_queue.url)
    check_queue(event_queue.url)
    place = Place(bucket=None, prefix="", datastore_ids=(world.datastore_id,), queue=event_queue.url, region="r")
    [statement] = [found for found in policy(["sync", "query"], place)["Statement"] if found["Sid"] == "Queue"]
    used = {call.removesuffix("Batch") for call, _ in calls if call.startswith("sqs:")}
    assert used == set(statement["Action"])
    assert statement["Resource"] == [f"arn:aws:sqs:r:123456789012:{event_queue.url.rpartition('/')[2]}"]
    assert "sqs" not in str(policy(["query", "verify"], place))


def test_the_queues_region_is_its_urls(capsys: pytest.CaptureFixture[str]) -> None:
    """And its key is allowed for reading alone."""
    url = "https://sqs.eu-west-1.amazonaws.com/111122223333/events"
    told = ["--region", "us-east-1", "--queue", url, "--queue-kms-key", "alias/events"]
    assert run(["iam-policy", "--catalog", "s3://bbb", "--datastore-id", ID, *told]) == 0
    statements = {found["Sid"]: found for found in json.loads(capsys.readouterr().out)["Statement"]}
    assert statements["Queue"]["Resource"] == ["arn:aws:sqs:eu-west-1:111122223333:events"]
    assert statements["QueueKey"]["Action"] == ["kms:Decrypt"]
    assert statements["QueueKey"]["Condition"] == {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/events"}}


@pytest.mark.parametrize(
    ("key", "resource", "aliases"),
    [
        ("1234abcd-12ab", "arn:aws:kms:us-east-1:*:key/1234abcd-12ab", None),
        ("arn:aws:kms:eu-west-1:1:key/x", "arn:aws:kms:eu-west-1:1:key/x", None),
        ("alias/phi", "arn:aws:kms:us-east-1:*:key/*", "alias/phi"),
        ("arn:aws:kms:eu-west-1:1:alias/phi", "arn:aws:kms:eu-west-1:1:key/*", "alias/phi"),
    ],
)
def test_a_kms_key_is_allowed_however_it_is_named(key: str, resource: str, aliases: str | None) -> None:
    """S3 decrypts for readers and makes data keys for writers; an alias becomes a condition."""
    place = Place(bucket="bbb", prefix="", datastore_ids=(ID,), region="us-east-1", kms_key=key)
    for jobs, actions in ((["query"], ["kms:Decrypt"]), (["sync"], ["kms:Decrypt", "kms:GenerateDataKey"])):
        [statement] = [found for found in policy(jobs, place)["Statement"] if found["Sid"] == "Key"]
        assert statement["Action"] == actions
        assert statement["Resource"] == [resource]
        condition = statement.get("Condition", {}).get("ForAnyValue:StringEquals", {}).get("kms:ResourceAliases")
        assert condition == aliases


def test_all_data_stores_are_listed_and_several_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """--all allows each data store, and to list them; several ids are several resources, and no more."""

    def printed(*arguments: str) -> list[dict[str, Any]]:
        capsys.readouterr()
        assert run(["iam-policy", "--catalog", "s3://bbb", "--region", "us-east-1", *arguments]) == 0
        statements: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["Statement"]
        return statements

    [listing] = [found for found in printed("--all") if "medical-imaging:ListDatastores" in found["Action"]]
    assert listing["Resource"] == ["*"]
    assert printed("--all")[0]["Resource"] == ["arn:aws:medical-imaging:us-east-1:*:datastore/*"]
    assert not [found for found in printed("--all", "--for", "query") if "medical-imaging" in str(found)]
    several = printed("--datastore-id", ID, "--datastore-id", "1" * 32)
    assert "ListDatastores" not in str(several)
    assert several[0]["Resource"] == [f"arn:aws:medical-imaging:us-east-1:*:datastore/{its}" for its in (ID, "1" * 32)]
    assert run(["iam-policy", "--catalog", "s3://bbb", "--datastore-id", "x"]) == 2


def test_the_command_prints_a_policy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON on stdout, for the region's partition, below the catalog's prefix, with no wider resource than asked."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-gov-west-1")
    secret = "arn:aws-us-gov:secretsmanager:r:1:secret:x-abcdef"
    more = ["--account", "111122223333", "--phi-key-from", f"aws-secret:{secret}"]
    assert run(["iam-policy", "--catalog", "s3://bbb/a/b", "--datastore-id", ID, *more]) == 0
    document = json.loads(capsys.readouterr().out)
    resources = [resource for found in document["Statement"] for resource in found["Resource"]]
    assert f"arn:aws-us-gov:medical-imaging:us-gov-west-1:111122223333:datastore/{ID}" in resources
    assert "arn:aws-us-gov:s3:::bbb/a/b/image_sets/*" in resources
    assert secret in resources
    assert "*" not in resources
    assert run(["iam-policy", "--catalog", "folder", "--datastore-id", ID, "--for", "verify"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {action for found in document["Statement"] for action in found["Action"]} == {
        "medical-imaging:SearchImageSets",
        "medical-imaging:GetImageSet",
    }


def test_the_policy_of_iceberg_tables_is_what_a_mirror_calls(
    world: World, s3_url: str, glue_endpoint: str, calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables in Glue made, changed, expired: each call on its own resource, and no action that is not called."""
    del glue_endpoint
    bucket = s3_url.removeprefix("s3://").partition("/")[0]
    monkeypatch.setenv("PYICEBERG_CATALOG__RIGHTS__TYPE", "glue")
    monkeypatch.setenv("PYICEBERG_CATALOG__RIGHTS__WAREHOUSE", f"s3://{bucket}/tables")
    monkeypatch.setattr(pyiceberg, "_ENV_CONFIG", Config())
    place = Place(
        bucket=bucket,
        prefix=s3_url.removeprefix(f"s3://{bucket}/"),
        datastore_ids=(world.datastore_id,),
        region="us-east-1",
        iceberg=find_iceberg("rights.imaging"),
    )
    statements = policy(["sync"], place)["Statement"]
    world.fill(30)
    world.sync(catalog=s3_url)
    calls.clear()
    for prefix in ("b", "c"):
        mirror_tables(s3_url, S3Access(), Request(to="rights.imaging", keep=timedelta(0)))
        world.fill(10, prefix=prefix)
        world.sync(catalog=s3_url, look_back=timedelta(days=300))
    mirror_tables(s3_url, S3Access(), Request(to="rights.imaging", keep=timedelta(0)))
    used = set()
    for call, params in calls:
        if call.startswith("glue:"):
            database = params.get("DatabaseName") or params.get("Name") or params["DatabaseInput"]["Name"]
            table = params.get("TableInput", {}).get("Name") or ("DatabaseName" in params and params["Name"])
            names = ["catalog", f"database/{database}", *([f"table/{database}/{table}"] if table else [])]
            resources = [f"arn:aws:glue:us-east-1:*:{name}" for name in names]
        elif call.startswith("s3:"):
            resources = resources_of(call, params)
        else:
            continue
        # S3 reads an object that it copies, and writes it.
        called = {"s3:ListObjectsV2": ["s3:ListBucket"], "s3:CopyObject": ["s3:GetObject", "s3:PutObject"]}
        for action in called.get(call, [call]):
            for resource in resources:
                assert any(allows(found, action, resource, params) for found in statements), (action, resource)
            used.add(action)
    tables = [found for found in statements if found["Sid"].startswith("Table")]
    assert {action for found in tables for action in found["Action"]} <= used
    assert "Table" not in str(policy(["query"], place))


def test_the_policy_of_s3_tables_names_their_bucket(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket for what is made in it, and its tables for their data; no rights in Glue, and none in S3."""
    warehouse = "arn:aws:s3tables:us-east-1:111122223333:bucket/imaging"
    monkeypatch.setenv("PYICEBERG_CATALOG__TABLES__TYPE", "rest")
    monkeypatch.setenv("PYICEBERG_CATALOG__TABLES__WAREHOUSE", warehouse)
    given = ["iam-policy", "--catalog", "folder", "--datastore-id", ID, "--region", "us-east-1"]
    assert run([*given, "--iceberg", "tables.imaging"]) == 0
    statements = {found["Sid"]: found for found in json.loads(capsys.readouterr().out)["Statement"]}
    assert statements["TableBucket"]["Resource"] == [warehouse]
    assert statements["Tables"]["Resource"] == [f"{warehouse}/table/*"]
    assert "s3tables:UpdateTableMetadataLocation" in statements["Tables"]["Action"]
    assert "TableFiles" not in statements
    assert run([*given, "--iceberg", "nowhere.imaging"]) == 2
    assert "no usable settings of a catalog nowhere" in capsys.readouterr().err
