"""`ahi-catalog plan` as a user meets it: it tells what a run would read, and writes nothing."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from ahi_catalog.cli.main import run
from tests.cli.test_cli import live, sync_arguments
from tests.support.world import BORN, World


def plan_arguments(world: World, *more: str) -> list[str]:
    return ["plan", "--catalog", str(world.catalog), "--datastore-id", world.datastore_id, *more]


def test_a_plan_of_the_first_sync_writes_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a catalog: everything since the data store's creation, about as many as there are, and no file."""
    # Up to now, for the command's clock is the real one: what is guessed of years without rows changes by the day.
    live(world).fill(3_000, step=(datetime.now(UTC) - BORN) / 3_001)
    assert run(plan_arguments(world, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert [by for by, _ in found["windows"]] == ["createdAt"]
    assert found["windows"][0][1].startswith("2024-01-01T00:00:00Z..")
    assert found["image_sets"] == pytest.approx(3_000, rel=0.1)
    assert 0 < found["image_sets_at_least"] <= 3_000
    assert found["probes"] <= 60
    assert not world.catalog.exists()


def test_a_plan_of_a_later_sync_has_the_changes_too(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """After a sync: what is new, the look-back and the changes; half of the share takes twice as long."""
    live(world).fill(300)
    assert run(sync_arguments(world)) == 0
    before = {path: path.read_bytes() for path in world.catalog.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run(plan_arguments(world, "--settle", "0", "--look-back", "2h", "--share", "0.5")) == 0
    shown = capsys.readouterr().out
    assert "by createdAt" in shown
    assert "by updatedAt" in shown
    assert "at 12.5 requests a second" in shown
    assert {path: path.read_bytes() for path in world.catalog.rglob("*") if path.is_file()} == before


def test_a_plan_of_nothing_yet_is_wrong_usage(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """What sync refuses, plan does: a start that has not come."""
    for arguments in (plan_arguments(world, "--start", "2999-01-01"), sync_arguments(world, "--start", "2999-01-01")):
        assert run(arguments) == 2
        assert "cannot begin in the future" in capsys.readouterr().err


def test_a_plan_of_a_backfill_has_its_range(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A month counts what was created in it; half a range is wrong usage."""
    live(world).fill(40, step=timedelta(days=1))
    day = (BORN + timedelta(days=20)).date().isoformat()
    assert run(plan_arguments(world, "--from", BORN.date().isoformat(), "--to", day, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["image_sets"], found["requests"]) == (20, 3)
    assert run(plan_arguments(world, "--from", day)) == 2


def test_a_plan_of_metadata_asks_the_service_nothing(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Requests for what is in the frequent tier; for the archived rest its price, at least 5 MB each."""
    live(world).fill(40, step=timedelta(seconds=1))
    world.fill(20, start=datetime.now(UTC) - timedelta(days=1), step=timedelta(seconds=1), prefix="new")
    assert run(sync_arguments(world)) == 0
    world.service.reset_counters()
    capsys.readouterr()
    assert run(plan_arguments(world, "--metadata", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["requests"], found["archived"], found["archived_bytes"]) == (20, 40, 200_000_000)
    assert found["waking_dollars"] == round(0.2e9 / 2**30 * 0.099, 2)
    assert not world.service.counters.requests
    assert run(plan_arguments(world, "--metadata")) == 0
    assert "not read without --archived" in capsys.readouterr().out
    assert run(["metadata", *sync_arguments(world)[1:6], "--archived", "--yes"]) == 0
    capsys.readouterr()
    assert run(plan_arguments(world, "--metadata")) == 0
    assert capsys.readouterr().out.split("take")[1].split() == ["requests", "none"]
