"""The heartbeat of a run: what is told of one that goes on, of one that was killed, and what it must not do."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ahi_catalog.cli.main import run
from ahi_catalog.cli.progress import Lines
from ahi_catalog.connectors.catalog import Catalog, Unit, layout, open_or_create, open_store
from ahi_catalog.connectors.catalog.heartbeat import RUNNING
from ahi_catalog.connectors.catalog.verification import outcome_told
from ahi_catalog.pipeline.heart import Heart
from ahi_catalog.pipeline.observers import Progress
from ahi_catalog.pipeline.run_report import Outcome, RunReport
from tests.support.world import World

ID = "0" * 32
BEGAN = datetime(2024, 5, 1, 12, tzinfo=UTC)
PROGRESS = Progress(
    datastore_id=ID,
    phase="reading image sets",
    seconds_done=30,
    seconds_total=120,
    seconds=100,
    rows=12_345,
    requests=9,
)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """An empty one."""
    return open_or_create(open_store(str(tmp_path / "catalog")), Unit.DAY)


def make_report(started_at: datetime = BEGAN) -> RunReport:
    return RunReport(flow="sync", run_id="abcdef01", datastore_id=ID, started_at=started_at)


def test_a_run_under_way_is_told_and_one_that_stopped_beating_was_killed(catalog: Catalog) -> None:
    """Its report says how far it is and how long yet; after five minutes without a beat it goes on no more."""
    report = make_report()
    heart = Heart(catalog, report, lambda: BEGAN + timedelta(minutes=2))
    heart.beat()
    heart.progressed(PROGRESS)
    heart.beat()
    [key] = catalog.run_keys(ID)
    found = catalog.run(key)
    assert found is not None
    assert (found["rows_read"], found["requests"], found["seconds"]) == (12_345, 9, 120)
    assert (found["under_way"]["share"], found["under_way"]["seconds_left"]) == (0.25, 300)
    assert outcome_told(found, BEGAN + timedelta(minutes=7)) == RUNNING
    assert outcome_told(found, BEGAN + timedelta(minutes=7, seconds=1)) == "killed"


def test_the_report_of_the_end_stays_whatever_beats_late(catalog: Catalog) -> None:
    """A beat that was on its way when the run ended finds another report there, and leaves it."""
    report = make_report()
    heart = Heart(catalog, report, lambda: BEGAN)
    heart.beat()
    key = layout.run_key(ID, BEGAN, "abcdef01")
    catalog.end_run(key, report.document(), expected=None)
    heart.beat()
    found = catalog.run(key)
    assert found is not None
    assert found["outcome"] == "done"
    assert catalog.run_keys(ID) == [key]


def test_status_tells_of_runs_under_way(catalog: Catalog, capsys: pytest.CaptureFixture[str], world: World) -> None:
    """A first sync that goes on is no lag of years without a word; machines are told the same."""
    del world
    now = datetime.now(UTC)
    catalog.store.put(f"{layout.STATE}datastore_id={ID}/checkpoint.json", b"{}", expected=None)
    heart = Heart(catalog, make_report(now), lambda: now)
    heart.progressed(PROGRESS)
    heart.beat()
    run(["status", "--catalog", catalog.store.url])
    shown = " ".join(capsys.readouterr().out.split())
    assert "reading image sets: 25%, 12,345 image sets, 9 requests, about 5.0 min left" in shown
    run(["status", "--catalog", catalog.store.url, "--json"])
    [told] = json.loads(capsys.readouterr().out)["datastores"]
    assert told["runs"][0]["outcome"] == RUNNING


def test_a_heartbeat_that_cannot_be_kept_costs_the_run_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Where its report is to be there is a file: the sync is done all the same, and says so once for each."""
    world.fill(30)
    folder = world.catalog / layout.runs_prefix(world.datastore_id)
    folder.parent.mkdir(parents=True)
    folder.write_bytes(b"")
    assert world.sync().outcome is Outcome.DONE
    world.assert_catalog_equals_service()
    assert caplog.text.count("the heartbeat of the run could not be kept") == 1


def test_a_finished_run_leaves_one_report(world: World) -> None:
    """The report takes the heartbeat's place, of a failed run too."""
    world.fill(30)
    world.sync()
    [report] = [json.loads(path.read_text()) for path in world.catalog.glob("_state/*/runs/*.json")]
    assert (report["outcome"], report["rows_read"], "under_way" in report) == ("done", 30, False)


def test_off_a_terminal_a_run_is_told_in_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing in the first minute, then a line a minute on stderr for each data store."""
    seconds = iter([0.0, 59.0, 61.0, 100.0, 122.0])
    lines = Lines(lambda: next(seconds))
    for _ in range(4):
        lines.progressed(PROGRESS)
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 2
    assert "reading image sets, 25%, 12,345 image sets, 9 requests, about 5.0 min left" in told.err


def test_a_run_that_does_not_know_how_much_there_is_tells_no_share(
    catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    """Metadata is looked for as it is read: its line and its status have what is done, and no percentage."""
    now = datetime.now(UTC)
    unknown = replace(PROGRESS, phase="reading metadata", seconds_done=0, seconds_total=0)
    assert (unknown.share, unknown.seconds_left) == (None, None)
    seconds = iter([0.0, 61.0])
    Lines(lambda: next(seconds)).progressed(unknown)
    assert "reading metadata, 12,345 image sets, 9 requests\n" in capsys.readouterr().err
    catalog.store.put(f"{layout.STATE}datastore_id={ID}/checkpoint.json", b"{}", expected=None)
    heart = Heart(catalog, make_report(now), lambda: now)
    heart.progressed(unknown)
    heart.beat()
    run(["status", "--catalog", catalog.store.url])
    assert "reading metadata, 12,345 image sets, 9 requests (as of" in " ".join(capsys.readouterr().out.split())
