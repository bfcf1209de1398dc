"""Data objects that are lost: every command that meets the hole says so, and none closes it by halves."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from ahi_catalog.cli.main import run
from ahi_catalog.connectors.catalog import open_catalog, open_store, parquet
from ahi_catalog.connectors.catalog.summary import summarize
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.pipeline.run_report import Outcome
from ahi_catalog.schemas import IMAGE_SETS
from tests.support.world import BORN, TODAY, World

DAY = timedelta(days=1)
YESTERDAY = Window(TODAY.replace(hour=0) - DAY, TODAY.replace(hour=0))
ROWS = 700
"""205 or so a day from BORN on."""


def lose_all(world: World) -> None:
    for path in world.catalog.glob("image_sets/**/*.parquet"):
        path.unlink()


@pytest.fixture
def holed(world: World) -> World:
    """Some old days and yesterday, synced; then every data object is deleted."""
    world.fill(ROWS)
    world.fill(30, start=TODAY - timedelta(hours=20), step=timedelta(minutes=10), prefix="new")
    world.sync()
    lose_all(world)
    return world


def test_a_sync_names_lost_objects_and_reads_those_whole_that_it_touches(holed: World) -> None:
    """It differs; the days of its look-back are complete again, and a changed row does not stand in for an old day."""
    holed.service.advance(timedelta(hours=1))
    holed.service.update(holed.datastore_id, "a0000003".rjust(32, "0"), {"storageTier": "ARCHIVE_INSTANT_ACCESS"})
    report = holed.sync()
    old = Coverage([Window(BORN, BORN + 4 * DAY)])
    assert (report.outcome, report.lost, report.unrepaired) == (Outcome.DONE, old, 1)
    assert report.difference is not None
    assert report.difference.endswith("verify it with `repair` from 2024-01-01 to 2024-01-05")
    assert len(holed.rows()) == 30
    told = summarize(open_catalog(open_store(str(holed.catalog))), holed.datastore_id, runs=1)
    assert (told.lost, told.to_repair, told.is_repairable) == (old, old, True)
    assert told.gaps == Coverage()
    repaired = holed.verify(is_repairing=True, start=BORN, end=BORN + 4 * DAY)
    assert (repaired.new, repaired.removed, repaired.unrepaired) == (ROWS, 0, 0)
    holed.assert_catalog_equals_service()
    assert not holed.sync().lost


def test_a_backfill_of_a_part_of_a_lost_day_leaves_the_rest_to_be_read(holed: World) -> None:
    """The day is read as a whole, or its object would hide that the rest is missing."""
    report = holed.backfill(BORN + DAY, BORN + DAY + timedelta(hours=1))
    rest = [Window(BORN, BORN + DAY), Window(BORN + 2 * DAY, BORN + 4 * DAY), YESTERDAY]
    assert report.lost == Coverage(rest)
    assert {row["created_at"].date() for row in holed.rows().values()} == {(BORN + DAY).date()}
    assert len(holed.rows()) == 210


def test_commands_say_what_is_lost_and_what_mends_it(
    holed: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`query` beside its answer, `status` with the range that a repair needs; neither asks the service."""
    monkeypatch.setenv("AHI_CATALOG_CATALOG", str(holed.catalog))
    asked = dict(holed.service.counters.requests)
    assert run(["query", "select count(*) as n from image_sets"]) == 0
    told = capsys.readouterr()
    assert "0" in told.out
    assert "--repair --from 2024-01-01 --to 2024-06-01" in " ".join(told.err.split())
    assert run(["status"]) == 1
    assert "--repair --from 2024-01-01 --to 2024-06-01" in " ".join(capsys.readouterr().out.split())
    assert dict(holed.service.counters.requests) == asked


def test_a_file_of_others_needs_no_repair(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Advice that would not help is not given."""
    world.fill(10)
    world.sync()
    [path] = world.catalog.glob("image_sets/**/*.parquet")
    path.with_name("other.parquet").write_bytes(b"")
    assert run(["status", "--catalog", str(world.catalog)]) == 1
    shown = capsys.readouterr().out
    assert "yours to delete" in shown
    assert "--repair" not in shown
    report = world.verify()
    assert report.unrepaired == 1
    assert "repair" not in str(report.difference)


@pytest.mark.parametrize(
    ("damage", "counts"),
    [
        (lambda world: world.service.delete(world.datastore_id, "a0000003".rjust(32, "0")), (0, 0, 1)),
        (lambda world: world.object(BORN.date()).write_bytes(b"damaged"), (210, 0, 0)),
    ],
)
def test_a_repair_reports_what_it_did(world: World, damage: Callable[[World], Any], counts: tuple[int, ...]) -> None:
    """Rows that it added, renewed and removed stand in the report, and in its table."""
    world.fill(ROWS)
    world.sync()
    damage(world)
    report = world.verify(is_repairing=True)
    assert (report.new, report.updated, report.removed) == counts
    assert dict(report.table())["rows removed"] == str(counts[2])
    assert (world.verify().new, world.verify().unrepaired) == (0, 0)


def test_a_repair_reports_rows_that_it_renewed(world: World) -> None:
    """A row that was changed behind the catalog's back is updated, one that it lacks is new."""
    world.fill(ROWS)
    world.sync()
    path = world.object(BORN.date())
    rows = parquet.decode(IMAGE_SETS, path.read_bytes())
    names = pa.array(["Another^Name"] * 5 + rows["patient_name"].to_pylist()[5:])
    changed = rows.set_column(rows.column_names.index("patient_name"), IMAGE_SETS.schema.field("patient_name"), names)
    path.write_bytes(parquet.encode(IMAGE_SETS, changed.slice(2)))
    report = world.verify(is_repairing=True)
    assert (report.new, report.updated, report.removed) == (2, 3, 0)
