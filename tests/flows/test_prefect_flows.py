"""The flows through Prefect: a temporary server, real tasks, real artifacts, credentials out of a real block."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter
from prefect.testing.utilities import prefect_test_harness
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from connectors import aws
from connectors.catalog import open_catalog, open_store
from connectors.catalog.querying import run_query
from connectors.errors import UsageError
from connectors.healthimaging.emulator.dicom_files import load_dicom_files
from connectors.healthimaging.emulator.idc import load_idc
from flows.backfill import backfill
from flows.credentials import find_session
from flows.parameters import parameters_of
from flows.sync import sync
from flows.verify import verify
from tests.flows.conftest import BORN, World
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    """A temporary Prefect server with a database of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DO_NOT_TRACK", "1")
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with prefect_test_harness(server_startup_timeout=120):
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
    with get_client(sync_client=True) as client:
        run_id = state.state_details.flow_run_id
        assert run_id is not None
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


def test_a_block_that_is_not_there_is_named() -> None:
    """One line says which block is missing and where to make it."""
    with pytest.raises(UsageError, match="no AwsCredentials block named absent; make it on the page Blocks"):
        find_session("absent")
