"""The installed wheel at work in a project that has `flows/`, `connectors/` and `schemas/` packages of its own."""

import json
import shutil
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient

from tests.support.installation import ROOT, Installation, clean_environment
from tests.support.prefect_server import end_of_run, prefect, running, running_prefect_server, start_run, wait_for
from tests.support.reference import expected_rows, read_folder
from tests.support.world import World

NOTEBOOK = """
import sys
from ahi_catalog import Catalog

print(Catalog(sys.argv[1]).query("select count(*) as n from image_sets").arrow().to_pylist())
print(sys.modules["ahi_catalog.connectors.catalog"].__file__)
"""
USERS_OWN = """
import ahi_catalog.flows
for name in ("flows", "connectors", "schemas"):
    try:
        __import__(name)
    except ImportError as error:
        print(name, error)
"""


def test_the_projects_own_packages_are_what_their_names_import(installation: Installation) -> None:
    """`flows`, `connectors` and `schemas` are the user's, with ahi-catalog imported or not."""
    found = installation.run(installation.python, "-c", USERS_OWN)
    assert found.splitlines() == [f"{name} is the user's" for name in ("flows", "connectors", "schemas")]


def test_the_command_syncs_and_queries(installation: Installation, world: World) -> None:
    """Version, sync and query of the installed command, and a notebook's query, on one catalog."""
    world.service.clock.unfreeze()
    world.fill(60)
    catalog = str(world.catalog)
    assert installation.run(installation.command, "--version").startswith("ahi-catalog")
    named = ["--catalog", catalog, "--datastore-id", world.datastore_id]
    report = json.loads(installation.run(installation.command, "sync", "--no-prefect", "--json", *named))
    assert report["new"] == 60
    counted = installation.run(
        installation.command, "query", "--catalog", catalog, "--format", "csv", "select count(*) as n from image_sets"
    )
    assert counted.split() == ['"n"', "60"]
    shown = installation.run(installation.python, "-c", NOTEBOOK, catalog)
    answer, imported_from = shown.splitlines()
    assert answer == "[{'n': 60}]"
    assert imported_from.startswith(str(installation.packages))


def test_prefect_finds_the_block_type(installation: Installation) -> None:
    """By the entry point of collections, with nothing registered by hand."""
    asked = "from prefect.plugins import load_prefect_collections as load; print(load()['ahi_catalog'].AhiCatalog)"
    assert "ahi_catalog.flows.blocks.AhiCatalog" in installation.run(installation.python, "-c", asked)


@pytest.mark.prefect
@pytest.mark.timeout(600)
def test_serve_and_a_worker_run_syncs(installation: Installation, world: World, tmp_path: Path) -> None:
    """A run that `serve` starts, and a run of prefect.yaml's deployment that a worker starts, each complete a catalog.

    Both are processes of their own, started in the user's project.
    """
    world.service.clock.unfreeze()
    world.fill(60)
    shutil.copy(ROOT / "prefect.yaml", installation.project)
    served, deployed = tmp_path / "served", tmp_path / "deployed"
    with running_prefect_server(tmp_path) as of_clients:
        environment = clean_environment(of_clients) | {
            "AHI_CATALOG_CATALOG": str(deployed),
            "AHI_CATALOG_DATASTORE_ID": world.datastore_id,
            "AHI_CATALOG_NAME": "deployed",
            "AHI_CATALOG_WORK_POOL": "workers",
        }
        for command in (("work-pool", "create", "workers", "--type", "process"), ("deploy", "--all")):
            prefect(environment, *command, python=installation.python, folder=installation.project)
        serve = [installation.command, "serve", "--catalog", str(served), "--name", "served"]
        worker = [installation.python, "-m", "prefect", "worker", "start", "--pool", "workers"]
        with (
            running(serve, installation.project, environment, name="serve"),
            running(worker, installation.project, environment, name="worker"),
            SyncPrefectClient(environment["PREFECT_API_URL"]) as client,
        ):
            wait_for(lambda: "served" in {each.name for each in client.read_deployments()}, "serve's deployments")
            runs = [start_run(client, f"sync/{name}", rate=1_000, burst=1_000) for name in ("served", "deployed")]
            assert [end_of_run(client, each).state_name for each in runs] == ["Completed", "Completed"]
    expected = expected_rows(world.service.rows(world.datastore_id))
    assert read_folder(served) == expected
    assert read_folder(deployed) == expected
