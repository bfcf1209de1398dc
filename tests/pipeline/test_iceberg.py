"""The mirror as a job: by itself, at the end of a run, as a flow, and on the command line."""

import json
import logging
from dataclasses import replace

import boto3
import pyarrow.parquet as pq
import pytest
from pyiceberg import catalog as pyiceberg
from pyiceberg.exceptions import ForbiddenError, NotInstalledError, ServiceUnavailableError
from pyiceberg.table import Table as IcebergTable
from sqlalchemy.exc import OperationalError

from ahi_catalog.cli.main import run
from ahi_catalog.connectors import aws
from ahi_catalog.connectors.catalog import open_catalog, open_store
from ahi_catalog.connectors.errors import AhiCatalogError, StateError, StoreError, UsageError
from ahi_catalog.connectors.iceberg import opening
from ahi_catalog.connectors.settings import S3Access
from ahi_catalog.pipeline.iceberg import TABLES, Request, mirror_after, mirror_tables
from ahi_catalog.schemas import IMAGE_SETS, INSTANCES, REMOVALS, SERIES
from tests.connectors.iceberg.tables import assert_equal, make_catalog, put_rows, write_as_others
from tests.support.world import World

TO = "tables.imaging"
pytestmark = pytest.mark.usefixtures("tables")


def load(name: str = "image_sets") -> IcebergTable:
    """A table as a reader loads it."""
    return pyiceberg.load_catalog("tables").load_table(f"imaging.{name}")


def test_a_mirror_says_how_complete_the_rows_are(world: World) -> None:
    """The snapshot carries watermark and followed_to, as they were before the catalog was listed."""
    world.fill(200)
    report = world.sync()
    [done] = mirror_tables(str(world.catalog), S3Access(), Request(to=TO), clock=world.service.now)
    assert done.mirrored.added == 1
    snapshot = load().current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    told = report.document()
    assert snapshot.summary["ahi-catalog.watermark"] == told["watermark_after"]
    assert snapshot.summary["ahi-catalog.followed-to"] == told["followed_to"]
    assert snapshot.summary["added-records"] == "200"
    assert_equal(open_catalog(open_store(str(world.catalog))), load())


def test_the_tables_of_a_run_are_told_apart_by_its_id_and_forgotten_together(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report for each table that there is; the rows of an image set go from the history of all but `removals`."""
    catalog = make_catalog(open_store(str(world.catalog)))
    derived = (SERIES, INSTANCES)
    for table in (IMAGE_SETS, *derived):
        put_rows(catalog, table, 0, ["a", "gone"])
    first = mirror_tables(str(world.catalog), S3Access(), Request(to=TO))
    assert [each.table for each in first] == ["imaging.image_sets", "imaging.series", "imaging.instances"]
    for table in (IMAGE_SETS, *derived):
        put_rows(catalog, table, 0, ["a"])
    put_rows(catalog, REMOVALS, 0, ["gone"])
    reports = mirror_tables(str(world.catalog), S3Access(), Request(to=TO, forget="gone"))
    assert [(each.table, each.expired and each.expired.snapshots) for each in reports] == [
        ("imaging.image_sets", 1),
        ("imaging.series", 1),
        ("imaging.instances", 1),
        ("imaging.removals", None),
    ]
    summaries = []
    for table in TABLES:
        found = load(table.name)
        assert_equal(catalog, found, table)
        [snapshot] = found.metadata.snapshots
        assert snapshot.summary is not None
        summaries.append([snapshot.summary[f"ahi-catalog.{name}"] for name in ("run-id", "catalog-id", "catalog")])
    assert summaries == [summaries[0]] * 4
    assert summaries[0][-1] == str(world.catalog)
    for table in TABLES:
        put_rows(catalog, table, 1, ["b"])
    assert run(["iceberg", "--catalog", str(world.catalog), "--to", TO, "--keep-snapshots", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(each["added"], each["expired"]["snapshots"]) for each in told] == [(1, 1)] * 4
    paths = world.catalog.parent.rglob("*.parquet")
    ids = {path: pq.ParquetFile(path).read()["image_set_id"].to_pylist() for path in paths}
    left = [path for path, names in ids.items() if "gone" in names]
    assert left
    assert all("removals" in path.parts for path in left)


def test_where_there_are_no_rows_no_table_is_made(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """It is told, and no error."""
    make_catalog(open_store(str(world.catalog)))
    assert run(["iceberg", "--catalog", str(world.catalog), "--to", TO]) == 0
    assert "Nothing to mirror yet" in capsys.readouterr().out
    assert not pyiceberg.load_catalog("tables").namespace_exists("imaging")


def test_a_failed_mirror_fails_nothing_and_the_next_one_catches_up(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told in one line, without an exception; what it missed comes with the next."""
    world.fill(20)
    world.sync()
    settings = replace(world.settings, iceberg=TO)

    def fail(name: str, **_: str) -> None:
        raise ConnectionError(name)

    monkeypatch.setattr(logging.getLogger("ahi_catalog"), "propagate", True)
    with monkeypatch.context() as patch:
        patch.setattr(opening, "load_catalog", fail)
        mirror_after(settings)
    # A set: a handler that another test has left writes it down again.
    [told] = {each.getMessage() for each in caplog.records if each.name == "ahi_catalog.pipeline.iceberg"}
    assert "the Iceberg catalog tables fails with ConnectionError" in told
    mirror_after(settings)
    assert_equal(open_catalog(open_store(str(world.catalog))), load())


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (ForbiddenError("secret"), AhiCatalogError, "refuses access (ForbiddenError)"),
        (ServiceUnavailableError("secret"), StoreError, "fails with ServiceUnavailableError"),
        (OperationalError("secret", None, Exception()), StoreError, "fails with OperationalError"),
        (FileNotFoundError("secret"), StateError, "names is missing"),
        (ValueError("secret"), UsageError, "no usable settings of a catalog tables"),
        (NotInstalledError("pip install x"), UsageError, "needs a package that is not installed"),
    ],
    ids=lambda each: getattr(type(each), "__name__", ""),
)
def test_an_error_says_whose_fault_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[AhiCatalogError], told: str
) -> None:
    """A refusal is no outage, an outage no damage, and what a library says is not repeated."""
    world.sync()

    def fail(*_: str, **__: str) -> None:
        raise error

    monkeypatch.setattr(opening, "load_catalog", fail)
    with pytest.raises(AhiCatalogError) as raised:
        mirror_tables(str(world.catalog), S3Access(), Request(to=TO))
    assert type(raised.value) is kind
    assert told in str(raised.value)
    assert "secret" not in str(raised.value)


def test_the_command_line_mirrors_by_itself_and_after_a_sync(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """`iceberg` tells what it did; `sync` with the option does it at its end, and its report stays the sync's."""
    world.service.clock.unfreeze()
    world.service.clock.offset *= 0
    world.fill(30)
    place = ["--catalog", str(world.catalog)]
    sync = [
        "sync",
        *place,
        "--datastore-id",
        world.datastore_id,
        "--no-prefect",
        "--rate",
        "100000",
        "--burst",
        "100000",
    ]
    assert run([*sync, "--json", "--iceberg", TO]) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 30
    assert load().scan().count() == 30
    world.fill(10, prefix="b")
    assert run(["backfill", *sync[1:], "--from", "2024-01-01", "--to", "2024-01-02"]) == 0
    capsys.readouterr()
    assert run(["iceberg", *place, "--to", TO, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "imaging.image_sets, as it would be" in shown
    assert "none: a dry run commits nothing" in shown
    assert load().scan().count() == 30
    assert run(["iceberg", *place, "--to", TO, "--keep-snapshots", "30d", "--json"]) == 0
    [told] = json.loads(capsys.readouterr().out)
    assert (told["replaced"], told["expired"]["snapshots"]) == (1, 0)
    assert load().scan().count() == 40
    assert run(["iceberg", *place, "--to", TO, "--keep-snapshots", "1d", "--forget", "f" * 32]) == 2
    assert "--keep-snapshots or --forget" in capsys.readouterr().err
    assert run(["iceberg", *place, "--to", TO, "--forget", "F" * 32]) == 2
    assert "32 of 0-9 and a-z" in capsys.readouterr().err
    assert run(["iceberg", *place, "--to", "tables"]) == 2
    assert "NAME.NAMESPACE" in capsys.readouterr().err


def test_what_others_wrote_is_told_with_the_option_that_helps(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the option; given, the table equals the catalog again."""
    world.fill(30)
    world.sync()
    place = ["iceberg", "--catalog", str(world.catalog), "--to", TO]
    assert run(place) == 0
    write_as_others(load(), replacing=1)
    capsys.readouterr()
    assert run(place) == 1
    assert "then mirror with --overwrite" in capsys.readouterr().err
    assert run([*place, "--overwrite"]) == 0
    assert_equal(open_catalog(open_store(str(world.catalog))), load())


def test_the_credentials_of_a_block_hold_for_the_iceberg_catalog_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyIceberg gets them where a session was chosen, and finds its own where none was."""
    world.sync()
    given: list[dict[str, str]] = []
    load_catalog = pyiceberg.load_catalog

    def load(name: str, **properties: str) -> pyiceberg.Catalog:
        given.append(properties)
        return load_catalog(name, **properties)

    monkeypatch.setattr(opening, "load_catalog", load)
    mirror_tables(str(world.catalog), S3Access(), Request(to=TO))
    with aws.using(boto3.Session("key", "hidden", region_name="eu-west-1")):
        mirror_tables(str(world.catalog), S3Access(), Request(to=TO))
    assert [sorted(each)[:-1] for each in given] == [
        [],
        ["client.access-key-id", "client.region", "client.secret-access-key"],
    ]
    assert given[1]["client.region"] == "eu-west-1"
