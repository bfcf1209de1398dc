"""The flows through Prefect: a temporary server, real tasks, real artifacts, credentials out of a real block."""

import itertools
import json
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey, FlowRunFilter, FlowRunFilterId
from prefect.settings import PREFECT_TASKS_DEFAULT_RETRIES, temporary_settings
from prefect_aws import AwsCredentials
from pydantic import SecretStr
from pyiceberg import catalog as pyiceberg
from pyiceberg.utils.config import Config

from ahi_catalog.connectors import aws
from ahi_catalog.connectors.catalog import open_catalog, open_store
from ahi_catalog.connectors.catalog.querying import run_query
from ahi_catalog.connectors.errors import SourceError, UsageError
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.healthimaging.scan import ScanRequest, ScanResult
from ahi_catalog.connectors.phi_key import load_phi_key
from ahi_catalog.connectors.windows import Window
from ahi_catalog.emulator.dicom_files import load_dicom_files
from ahi_catalog.emulator.idc import load_idc
from ahi_catalog.flows.backfill import backfill
from ahi_catalog.flows.blocks import AhiCatalog
from ahi_catalog.flows.credentials import find_session
from ahi_catalog.flows.events import tell
from ahi_catalog.flows.iceberg import iceberg
from ahi_catalog.flows.parameters import parameters_of
from ahi_catalog.flows.sync import sync
from ahi_catalog.flows.tasks import PrefectScanExecutor
from ahi_catalog.flows.verify import verify
from ahi_catalog.flows.watch import watch
from ahi_catalog.pipeline.many import EACH, Result
from ahi_catalog.pipeline.run_report import RunReport
from ahi_catalog.pipeline.scan_task import ScanTask
from ahi_catalog.schemas import PhiKey, PhiPolicy
from tests.support.prefect_server import flows_on_a_server
from tests.support.reference import expected_rows, read_folder
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY
from tests.support.world import BORN, TODAY, World, summary


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    """One server for all of them."""
    with flows_on_a_server():
        yield


def test_flows_through_prefect_equal_the_service(world: World) -> None:
    """Sync, backfill and verify of real series and files as flows end completed, and every value is the service's.

    A verify that finds a difference ends failed.
    """
    # The flow reads the machine's own clock, so the service must not be ahead of it or behind.
    world.service.clock.unfreeze()
    world.service.clock.offset = timedelta()
    load_idc(world.service, world.datastore_id, rows=2_000)
    load_dicom_files(world.service, world.datastore_id)
    world.fill(500)
    asked = parameters_of(world.settings)
    state = sync(**asked, start=datetime(2000, 1, 1, tzinfo=UTC), return_state=True)
    assert state.is_completed()
    world.assert_catalog_equals_service()
    world.service.delete(world.datastore_id, "a0000001".rjust(32, "0"))
    assert backfill(**asked, start=BORN, end=BORN + timedelta(days=1), return_state=True).is_completed()
    world.assert_catalog_equals_service()
    assert verify(**asked, return_state=True).is_completed()
    world.object(BORN.date()).unlink()
    differs = verify(**asked, return_state=True)
    assert (differs.is_failed(), differs.name) == (True, "Differs")
    assert verify(**asked, repair=True, return_state=True).is_completed()
    world.assert_catalog_equals_service()
    _assert_prefect_knows_counts_only()


def test_the_phi_key_can_be_a_secret_block(world: World) -> None:
    """A Secret block of Prefect holds the key; a block that is not there is one line, in the flow's state too."""
    world.service.clock.unfreeze()
    world.service.clock.offset = timedelta()
    world.fill(20)
    key = "0123456789abcdef" * 4
    Secret(value=SecretStr(key)).save("phi-key")
    settings = replace(world.settings, phi="pseudonymize", phi_key_from="prefect-secret:phi-key")
    assert sync(**parameters_of(settings), return_state=True).is_completed()
    found = json.loads((world.catalog / "_state/catalog.json").read_bytes())
    assert found["phi"]["key_check"] == PhiKey(key.encode()).check
    state = sync(**parameters_of(replace(settings, phi_key_from="prefect-secret:absent")), return_state=True)
    assert state.is_failed()
    assert "cannot be read from a Secret block" in str(state.message)


def test_many_data_stores_are_one_flow_run_with_artifacts_for_each(world: World) -> None:
    """Side by side, on a local Dask cluster too: each data store has its report, and one that fails is named."""
    world.service.clock.unfreeze()
    world.service.clock.offset = timedelta()
    world.fill(500)
    other = world.service.create_datastore(name="other", created_at=BORN)
    world.service.insert(other, (summary(f"o{number}", BORN + timedelta(hours=number)) for number in range(300)))
    settings = replace(world.settings, datastore_id=EACH)
    assert sync(**parameters_of(settings), return_state=True).is_completed()
    rows = expected_rows([*world.service.rows(world.datastore_id), *world.service.rows(other)])
    assert read_folder(world.catalog) == rows
    unknown = "f" * 32
    on_cluster = replace(settings, dask="local", concurrency=2, catalog=str(world.catalog.parent / "again"))
    asked = parameters_of(on_cluster) | {"datastore_ids": [other, unknown, world.datastore_id]}
    failed = sync(**asked, return_state=True)
    assert failed.is_failed()
    assert str(failed.message).startswith(f"1 of 3 data stores failed\n{unknown}: GetDatastore: ")
    assert read_folder(world.catalog.parent / "again") == rows
    with get_client(sync_client=True) as client:
        keys = {artifact.key for artifact in client.read_artifacts(artifact_filter=ArtifactFilter())}
        names = {run.name for run in client.read_task_runs()}
    assert {f"ahi-catalog-sync-{other}", f"ahi-catalog-sync-{world.datastore_id}"} <= keys
    assert any(name.startswith(f"{other} createdAt ") for name in names)


class Failing:
    """Scans fail; counts them."""

    is_full = False

    def __init__(self) -> None:
        self.scans = 0

    def submit(self, *_: Any) -> Future[ScanResult]:
        self.scans += 1
        failed: Future[ScanResult] = Future()
        failed.set_exception(SourceError("failed"))
        return failed


def test_a_scan_that_fails_is_not_run_again_by_prefect(world: World) -> None:
    """Whatever the default of its settings: requests are tried again where they are made."""
    scans = Failing()

    @flow
    def read() -> None:
        run = lambda _: pytest.fail("not on this thread")  # noqa: E731
        task = ScanTask(world.settings, PhiPolicy(), load_phi_key, run)
        request = ScanRequest(by=Field.CREATED_AT, window=Window(BORN, TODAY))
        PrefectScanExecutor(scans).submit(task, request).result()

    with temporary_settings({PREFECT_TASKS_DEFAULT_RETRIES: 3}), pytest.raises(SourceError):
        read()
    assert scans.scans == 1


def _assert_prefect_knows_counts_only() -> None:
    """Reports and progress are artifacts, tasks are named by their windows, and no patient appears in any of it."""
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts(artifact_filter=ArtifactFilter())
        runs = client.read_task_runs()
        flows = client.read_flow_runs()
    assert {artifact.type for artifact in artifacts} >= {"table", "progress"}
    assert {"ahi-catalog-sync", "ahi-catalog-findings"} <= {artifact.key for artifact in artifacts}
    assert any(run.name.startswith("createdAt 2000-01-01T00:00:00Z..") for run in runs)
    known: list[Any] = [*artifacts, *runs, *flows]
    secrets = ("Tester", "P-a", "CompressedSamples", "Lestrade")
    assert not [secret for item in known for secret in secrets if secret in item.model_dump_json()]


def test_a_flow_reads_and_writes_with_the_credentials_of_a_block(
    world: World, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment's keys open nothing; the block's open the service and a real S3 server, for Arrow too.

    What Prefect keeps of the run is the block's name.
    """
    world.service.clock.unfreeze()
    world.fill(100)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    block = AwsCredentials(
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SecretStr(SECRET_KEY), region_name="us-east-1"
    )
    block.save("imaging")
    asked = parameters_of(replace(world.settings, catalog=s3_url))
    state = sync(**asked, credentials="imaging", return_state=True)
    assert state.is_completed()
    with aws.using(find_session("imaging")):
        assert run_query(open_catalog(open_store(s3_url)), "select count(*) from image_sets")[0][0].as_py() == 100
    AhiCatalog(catalog=s3_url, datastore_ids=[world.datastore_id], credentials="imaging").save("radiology")
    known = AhiCatalog.load("radiology")
    assert isinstance(known, AhiCatalog)
    assert known.open().query("select count(*) from image_sets").arrow()[0][0].as_py() == 100
    assert sync(**known.parameters(), return_state=True).is_completed()
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(run_id)
    assert run.parameters["credentials"] == "imaging"
    assert SECRET_KEY not in run.model_dump_json()


def test_a_backfill_that_fails_is_tried_again(world: World) -> None:
    """Credentials that expire in the middle fail the first try; the second one, with new ones, does the whole."""
    world.service.clock.unfreeze()
    world.service.clock.offset = timedelta()
    world.fill(2_000)
    world.service.faults.add("expired_token", at=20, operation="SearchImageSets")
    at_once = backfill.with_options(retry_delay_seconds=0)
    end = BORN + timedelta(days=30)
    assert at_once(**parameters_of(world.settings), start=BORN, end=end, return_state=True).is_completed()
    assert world.service.counters.faults["expired_token"] == 1
    world.assert_catalog_equals_service()


def test_a_backfill_that_is_asked_for_wrongly_fails_at_once(world: World) -> None:
    """What is wrong however often it is tried is not tried again."""
    at_once = backfill.with_options(retry_delay_seconds=0)
    state: Any = at_once(**parameters_of(world.settings), start=TODAY, end=BORN, return_state=True)
    assert isinstance(state.result(raise_on_failure=False), UsageError)
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(state.state_details.flow_run_id).run_count == 1


def test_a_watch_as_a_flow_ends_as_cancelled_with_its_report(world: World) -> None:
    """SIGTERM, which is how Prefect cancels a run, ends it in order; scans are no tasks, the report is an artifact."""
    world.service.clock.unfreeze()
    world.service.clock.offset = timedelta()
    world.fill(200)
    arrived, requests = world.service.arrived, itertools.count(1)

    def arrived_and_stopped(operation: str) -> int:
        if next(requests) == 16:
            os.kill(os.getpid(), signal.SIGTERM)
        return arrived(operation)

    world.service.arrived = arrived_and_stopped  # type: ignore[method-assign]
    state = watch(**parameters_of(world.settings), every="1s", metadata=True, return_state=True)
    assert state.is_cancelled()
    world.assert_catalog_equals_service()
    with get_client(sync_client=True) as client:
        made = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["ahi-catalog-watch"])))
        assert made
        run_id = state.state_details.flow_run_id
        assert run_id
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])))
        assert {task.name.rpartition("-")[0] for task in tasks} == {"refreshed"}
    reports = [json.loads(each.read_text("utf-8")) for each in world.catalog.glob("_state/**/runs/*.json")]
    assert [each["metadata"]["archived"] for each in reports if each["flow"] == "metadata"] == [200]


def test_a_flow_that_is_stopped_while_data_stores_are_listed_is_cancelled(world: World) -> None:
    """SIGTERM meets a listing that is to be tried again: the flow ends as cancelled, and no catalog is made."""
    world.service.faults.add("500", operation="ListDatastores")
    arrived = world.service.arrived

    def arrived_and_stopped(operation: str) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return arrived(operation)

    world.service.arrived = arrived_and_stopped  # type: ignore[method-assign]
    parameters = parameters_of(world.settings) | {"datastore_ids": None}
    assert sync(**parameters, return_state=True).is_cancelled()
    assert not world.catalog.exists()


def test_a_block_of_a_catalog_is_refused_where_a_run_would_be() -> None:
    """An option that there is not is one line when the block is made."""
    with pytest.raises(UsageError, match="`settl`: "):
        AhiCatalog(catalog="s3://bucket/imaging", options={"settl": "30m"})


def test_events_that_cannot_be_made_cost_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A catalog whose URL is too long for an asset's key: a warning that does not quote it."""
    report = RunReport(flow="sync", run_id="0", datastore_id="0" * 32, started_at=TODAY, partitions_written=1)
    tell("s3://" + "b" * 600, [Result(datastore_id="0" * 32, report=report)])
    assert "Prefect took no event of the run: " in caplog.text
    assert "bbb" not in caplog.text


def test_a_verify_says_what_was_compared(world: World) -> None:
    """A clean one counts what it read; one of a part in which there is nothing says so."""
    world.service.clock.unfreeze()
    world.service.clock.offset = timedelta()
    world.fill(30)
    world.sync()
    asked = parameters_of(world.settings)
    message = str(verify(**asked, return_state=True).message)
    assert re.fullmatch(r"30 image sets of [\d,]+ days compared: nothing wrong", message)
    empty = f"{(BORN.toordinal() - 1) % 9_999 + 1}/9999"
    state = verify(**asked, part=empty, return_state=True)
    assert state.message == f"nothing to compare: the catalog holds nothing of part {empty}"


def test_a_block_that_is_not_there_is_named() -> None:
    """One line says which block is missing and where to make it."""
    with pytest.raises(UsageError, match="no AwsCredentials block named absent; make it on the page Blocks"):
        find_session("absent")


def test_a_sync_flow_mirrors_at_its_end_and_the_iceberg_flow_by_itself(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both end completed; the second has nothing to do, and says so."""
    for name, value in {"TYPE": "sql", "URI": f"sqlite:///{tmp_path}/t.db", "WAREHOUSE": f"file://{tmp_path}"}.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__TABLES__{name}", value)
    monkeypatch.setattr(pyiceberg, "_ENV_CONFIG", Config())
    world.service.clock.unfreeze()
    world.service.clock.offset = timedelta()
    world.fill(30)
    state = sync(**parameters_of(replace(world.settings, iceberg="tables.imaging")), return_state=True)
    assert state.is_completed()
    assert pyiceberg.load_catalog("tables").load_table("imaging.image_sets").scan().count() == 30
    state = iceberg(str(world.catalog), "tables.imaging", keep_snapshots=timedelta(days=30), return_state=True)
    assert (state.is_completed(), state.message) == (True, "1 Iceberg tables, 0 partitions changed")
