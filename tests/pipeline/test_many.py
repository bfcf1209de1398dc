"""Several data stores side by side, over real HTTP: one quota, one catalog, and a failure that stops nobody else."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ahi_catalog.cli.main import run
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.healthimaging.source import Connection
from ahi_catalog.connectors.settings import Quota, Settings
from ahi_catalog.pipeline import many, sync, watch
from ahi_catalog.pipeline.executors import open_threads
from ahi_catalog.pipeline.many import EACH, Result, run_many
from ahi_catalog.pipeline.run_report import RunReport
from ahi_catalog.pipeline.scan_task import ScanExecutor
from ahi_catalog.pipeline.verify import job
from tests.support.reference import expected_rows, read_rows
from tests.support.world import BORN, World

UNKNOWN = "f" * 32


def add_store(world: World, name: str, rows: int) -> str:
    """One more data store, with so many image sets at the times of `World.fill`."""
    made = world.service.create_datastore(name=name, created_at=BORN)
    own = replace_store(world, made)
    own.fill(rows, prefix=name)
    return made


def replace_store(world: World, datastore_id: str) -> World:
    own = object.__new__(World)
    own.__dict__.update(world.__dict__, datastore_id=datastore_id)
    return own


def assert_catalog_equals_service(world: World, datastore_ids: list[str]) -> None:
    """For each data store exactly one row an image set, with every value as the service has it."""
    for datastore_id in datastore_ids:
        paths = sorted(world.catalog.glob(f"image_sets/datastore_id={datastore_id}/**/*.parquet"))
        found = read_rows(pq.read_table(path, partitioning=None) for path in paths)
        assert found == expected_rows(world.service.rows(datastore_id))


def sync_many(
    world: World, datastore_ids: list[str] | None, stop: threading.Event | None = None, **changes: Any
) -> list[Result]:
    settings = replace(world.settings, datastore_id=EACH, **changes)
    run_sync = partial(sync.sync, clock=world.service.now)
    with open_threads(settings.workers) as executor:
        return run_many(run_sync, settings, datastore_ids, stop or threading.Event(), executor_for=lambda _: executor)


def outcomes(results: list[Result]) -> list[str]:
    return [str(result.outcome) for result in results]


@pytest.fixture
def stores(world: World) -> list[str]:
    """Three data stores of different sizes."""
    world.fill(900)
    return [world.datastore_id, add_store(world, "b", 400), add_store(world, "c", 0)]


def test_all_active_data_stores_share_one_catalog(world: World, stores: list[str]) -> None:
    """Without ids the account's own list counts; each data store has its rows, its checkpoint and its run report."""
    results = sync_many(world, None)
    assert [result.datastore_id for result in results] == sorted(stores)
    assert outcomes(results) == ["done"] * 3
    assert sorted(result.report.new for result in results if result.report) == [0, 400, 900]
    assert_catalog_equals_service(world, stores)
    for datastore_id in stores:
        assert len(list((world.catalog / f"_state/datastore_id={datastore_id}/runs").iterdir())) == 1


def test_a_failure_in_one_stops_no_other(world: World, stores: list[str]) -> None:
    """An unknown data store, and one whose checkpoint is damaged, fail by name; the others are complete."""
    sync_many(world, stores[:1])
    checkpoint = world.catalog / f"_state/datastore_id={stores[0]}/checkpoint.json"
    checkpoint.write_bytes(b"{")
    results = sync_many(world, [stores[0], UNKNOWN, *stores[1:]])
    assert outcomes(results) == ["failed", "failed", "done", "done"]
    assert "the checkpoint is damaged" in str(results[0].failure)
    assert "check the data store id" in str(results[1].failure)
    assert results[1].report is None
    assert many.outcome_of(results) == "failed"
    assert_catalog_equals_service(world, stores)


def test_the_quota_is_one_for_all(make_world: Callable[..., World]) -> None:
    """Three data stores at once stay within a quota that each of them alone would use up."""
    world = make_world(rate=100.0, burst=10)
    world.fill(1_500)
    stores = [world.datastore_id, add_store(world, "b", 1_500), add_store(world, "c", 1_500)]
    results = sync_many(world, stores, quota=Quota(rate=100, burst=10), page_budget=5)
    counters = world.service.counters
    asked = counters.requests["SearchImageSets"]
    assert outcomes(results) == ["done"] * 3
    assert sum(result.report.counts.requests for result in results if result.report) == asked + 3
    assert counters.throttled < asked / 20
    assert_catalog_equals_service(world, stores)


def test_a_stop_ends_them_all_and_the_next_run_resumes(world: World, stores: list[str]) -> None:
    """Runs under way publish what is proven, those that have not begun do not begin, and the rest is read later."""
    stop, requests, arrived = threading.Event(), count(1), world.service.arrived

    def arrived_and_stop(operation: str) -> int:
        if next(requests) == 12:
            stop.set()
        return arrived(operation)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.service, "arrived", arrived_and_stop)
        results = sync_many(world, stores, stop, page_budget=2, concurrency=1)
    assert many.outcome_of(results) == "stopped"
    first, *others = results
    assert first.report is not None
    assert 0 < first.report.new < 900
    assert [other.report for other in others] == [None, None]
    assert outcomes(sync_many(world, stores)) == ["done"] * 3
    assert_catalog_equals_service(world, stores)


def test_overlapping_runs_over_many_agree(world: World, stores: list[str]) -> None:
    """Two of them on one new catalog leave one row an image set."""
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda ids: sync_many(world, ids), [stores, stores[::-1]]))
    assert [outcomes(results) for results in both] == [["done"] * 3] * 2
    assert_catalog_equals_service(world, stores)


def test_verify_tells_which_data_store_differs(world: World, stores: list[str]) -> None:
    """The same plumbing runs a verification; one difference fails one data store."""
    sync_many(world, stores)
    next(iter(world.catalog.glob(f"image_sets/datastore_id={stores[1]}/**/*.parquet"))).unlink()
    verify = partial(job.verify, request=job.Request(), clock=world.service.now)
    settings = replace(world.settings, datastore_id=EACH)
    with open_threads(4) as executor:
        results = run_many(verify, settings, stores, threading.Event(), executor_for=lambda _: executor)
    assert [bool(result.failure) for result in results] == [False, True, False]
    assert "differences" in str(results[1].failure)
    assert many.outcome_of(results) == "failed"


def test_no_data_store_at_all_is_wrong_usage(world: World) -> None:
    """An account without one, and an id that is none, are told before anything runs."""
    world.service.datastores.clear()
    with pytest.raises(UsageError, match="no active one"):
        sync_many(world, None)
    with pytest.raises(UsageError, match="data store id"):
        sync_many(world, [UNKNOWN, "short"])
    assert not world.catalog.exists()


def arguments(world: World, *more: str) -> list[str]:
    world.service.clock.unfreeze()
    world.service.clock.offset *= 0
    return ["sync", "--catalog", str(world.catalog), "--no-prefect", "--rate", "9999", "--burst", "9999", *more]


def test_the_command_line_reports_on_each(world: World, stores: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON document with a report a data store; as text a line each; code 1, and a line for what failed."""
    ids = [argument for found in (*stores, UNKNOWN, stores[0]) for argument in ("--datastore-id", found)]
    assert run(arguments(world, "--json", *ids)) == 1
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document["outcome"] == "failed"
    assert [its["datastore_id"] for its in document["datastores"]] == [*stores, UNKNOWN]
    assert [its["outcome"] for its in document["datastores"]] == ["done"] * 3 + ["failed"]
    assert document["datastores"][0]["report"]["new"] == 900
    assert document["datastores"][3]["report"] is None
    assert shown.err.count("\n") == 1
    assert shown.err.startswith(f"Error: data store {UNKNOWN}: GetDatastore: ")
    assert_catalog_equals_service(world, stores)
    assert run(arguments(world, "--all")) == 0
    shown = capsys.readouterr()
    assert not [found for found in stores if found not in shown.out]
    assert shown.out.count("done") == 3
    assert not shown.err


def test_data_stores_come_from_variables_and_the_file_too(
    world: World, stores: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several by a variable, one or several by the file; the nearer of --datastore-id and --all counts."""

    def read(*more: str) -> list[str]:
        capsys.readouterr()
        assert run(arguments(world, "--json", *more)) == 0
        document = json.loads(capsys.readouterr().out)
        return [its["datastore_id"] for its in document.get("datastores", [document])]

    monkeypatch.chdir(tmp_path)
    file = tmp_path / "ahi-catalog.toml"
    file.write_text(f'datastore-id = "{stores[0]}"\n')
    assert read() == [stores[0]]
    file.write_text(f'datastore-id = ["{stores[0]}", "{stores[2]}"]\n')
    assert read() == [stores[0], stores[2]]
    assert read("--all") == sorted(stores)
    monkeypatch.setenv("AHI_CATALOG_DATASTORE_ID", f"{stores[1]} {stores[2]}")
    assert read() == stores[1:]
    file.write_text("all = true\n")
    assert read() == stores[1:]
    monkeypatch.delenv("AHI_CATALOG_DATASTORE_ID")
    assert read() == sorted(stores)
    file.unlink()
    assert run(arguments(world)) == 2
    assert run(arguments(world, "--all", "--datastore-id", UNKNOWN)) == 2


def test_watches_of_all_data_stores_go_on_at_once(world: World, stores: list[str]) -> None:
    """More of them than workers, under one quota; one that fails for good is logged at once, and stops no other."""
    stop, made = threading.Event(), Counter[str]()

    def run(settings: Settings, *, executor: ScanExecutor, stop: threading.Event, connection: Connection) -> RunReport:
        class Passes(watch.Timer):
            def wait(self, seconds: float) -> None:
                del seconds
                made[settings.datastore_id] += 1
                # Only together do they get on.
                if len(made) == len(stores) and min(made.values()) >= 3:
                    stop.set()
                stop.wait(0.01)

        return watch.watch(settings, executor, stop, wake=Passes(stop), clock=world.service.now, connection=connection)

    with open_threads(1) as executor:
        results = many.run_many(
            run,
            replace(world.settings, datastore_id=many.EACH, concurrency=1),
            [UNKNOWN, *stores],
            stop,
            executor_for=lambda _: executor,
            is_lasting=True,
        )
    assert outcomes(results) == ["failed", "stopped", "stopped", "stopped"]
    assert_catalog_equals_service(world, stores)
