"""The deployments of prefect.yaml on a real Prefect server, run by a real worker: deploy, run, cancel, resume.

Slow (a minute or two of Prefect's own starting), and so not among `make test`: run it with `make test-prefect`.
"""

import json
import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelling

from tests.support.prefect_server import end_of_run, prefect, running, running_prefect_server, start_run, wait_for
from tests.support.world import World

DEPLOYMENTS = ("sync/world", "verify/world", "backfill/world", "metadata/world")
pytestmark = [pytest.mark.prefect, pytest.mark.timeout(900)]


def test_a_cancelled_run_ends_in_order_and_the_next_one_resumes(world: World, tmp_path: Path) -> None:
    """Deployed from prefect.yaml, scheduled by the server and run by a worker, a cancelled run keeps what it proved.

    The next one reads only the rest, and then the catalog equals the service; a verify through its deployment agrees.
    Once its trigger is enabled, metadata is read after a sync.
    """
    world.service.clock.unfreeze()
    world.service.clock.offset = timedelta()
    world.fill(3_000)
    with running_prefect_server(tmp_path) as environment:
        environment |= {
            "AHI_CATALOG_CATALOG": str(world.catalog),
            "AHI_CATALOG_DATASTORE_ID": world.datastore_id,
            "AHI_CATALOG_NAME": "world",
            "AHI_CATALOG_WORK_POOL": "workers",
            "AWS_ENDPOINT_URL_MEDICAL_IMAGING": os.environ["AWS_ENDPOINT_URL_MEDICAL_IMAGING"],
        }
        prefect(environment, "work-pool", "create", "workers", "--type", "process")
        deployed = prefect(environment, "deploy", "--all")
        assert all(f"'{name}' successfully created" in deployed for name in DEPLOYMENTS)
        worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "workers"]
        with (
            running(worker, tmp_path, environment, name="worker"),
            SyncPrefectClient(environment["PREFECT_API_URL"]) as client,
        ):
            wait_for(lambda: {"sync/world", "verify/world"} <= _due(client), "runs by the schedules")
            stopped = start_run(client, "sync/world", rate=1, burst=1)
            wait_for(lambda: any(world.catalog.rglob("*.parquet")), "a published partition")
            client.set_flow_run_state(stopped, Cancelling())
            run = end_of_run(client, stopped)
            assert run.state is not None
            assert run.state.is_cancelled()
            assert 0 < _rows_new(client, stopped) < 3_000
            assert not _runs_of(client, "metadata/world")
            automation = client.find_automation("world: a sync is complete")
            assert automation is not None
            assert not automation.enabled
            client.resume_automation(automation.id)
            resumed = start_run(client, "sync/world", rate=1_000, burst=1_000)
            assert end_of_run(client, resumed).state_name == "Completed"
            wait_for(lambda: bool(_runs_of(client, "metadata/world")), "a run after the sync")
            [reading] = _runs_of(client, "metadata/world")
            assert end_of_run(client, reading).state_name == "Completed"
            assert _rows_new(client, stopped) + _rows_new(client, resumed) == 3_000
            world.assert_catalog_equals_service()
            verified = start_run(client, "verify/world", part="1/1", rate=1_000, burst=1_000)
            assert end_of_run(client, verified).state_name == "Completed"


def _due(client: SyncPrefectClient) -> set[str]:
    """The deployments that the server has made runs of, for when they fall due."""
    scheduled = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])))
    of = {run.deployment_id for run in client.read_flow_runs(flow_run_filter=scheduled) if run.auto_scheduled}
    return {name for name in DEPLOYMENTS if client.read_deployment_by_name(name).id in of}


def _runs_of(client: SyncPrefectClient, name: str) -> list[UUID]:
    deployment = client.read_deployment_by_name(name).id
    return [run.id for run in client.read_flow_runs() if run.deployment_id == deployment]


def _artifacts(client: SyncPrefectClient, run_id: UUID, kind: str) -> list[object]:
    found = client.read_artifacts(
        artifact_filter=ArtifactFilter(), flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    )
    return [artifact.data for artifact in found if artifact.type == kind]


def _rows_new(client: SyncPrefectClient, run_id: UUID) -> int:
    """As the run's table says."""
    [table] = _artifacts(client, run_id, "table")
    assert isinstance(table, str)
    rows: Mapping[str, str] = {row["what"]: row["value"] for row in json.loads(table)}
    return int(rows["rows new"].replace(",", ""))
