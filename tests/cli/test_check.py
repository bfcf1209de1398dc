"""`check`: a verdict on a catalog, by limits, without asking the service."""

import json
from datetime import timedelta

import pytest

from ahi_catalog.cli.main import run
from tests.support.world import BORN, World, summary


def checked(world: World, capsys: pytest.CaptureFixture[str], *limits: str) -> tuple[int, dict[str, bool]]:
    """The exit code, and which limits are met."""
    code = run(["check", "--catalog", str(world.catalog), "--json", *limits])
    document = json.loads(capsys.readouterr().out)
    [store] = document["datastores"]
    assert document["passed"] is (code == 0)
    return code, {its["name"]: its["passed"] for its in store["checks"]}


@pytest.fixture
def fresh(world: World) -> World:
    """A catalog that was synced just now, by the machine's clock."""
    world.service.clock.unfreeze()
    world.service.clock.offset = timedelta()
    odd = summary("a", BORN + timedelta(minutes=1), StudyDate="tomorrow", KVP="120")
    world.service.insert(world.datastore_id, [odd, summary("b", BORN), summary("c", BORN)])
    world.sync()
    return world


def test_a_fresh_catalog_is_fit(fresh: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a limit the usual ones are checked, and all are met after a sync."""
    assert checked(fresh, capsys) == (0, {"lag": True, "gaps": True, "lost objects": True})


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (["--max-lag", "5m"], "lag"),
        (["--max-verify-age", "35d"], "verify"),
        (["--max-unparsable", "study_date=33%"], "unparsable study_date"),
        (["--no-unknown-fields"], "unknown fields"),
        (["--no-conflicts"], "conflicts"),
    ],
)
def test_a_limit_that_is_not_met_fails(
    fresh: World, capsys: pytest.CaptureFixture[str], limits: list[str], name: str
) -> None:
    """Each limit fails by itself: a watermark behind the settle, no verify, one date of three, a new field, a study
    of three patients."""
    assert checked(fresh, capsys, *limits) == (1, {name: False})


def test_limits_that_are_just_met_pass(fresh: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A share of a third allows one of three; a verify that found nothing is recent."""
    fresh.verify()
    limits = ["--max-unparsable", "study_date=34%", "--max-verify-age", "1d", "--max-lag", "11m"]
    assert checked(fresh, capsys, *limits) == (0, {"lag": True, "verify": True, "unparsable study_date": True})


def test_a_gap_and_a_lost_object_fail(fresh: World, capsys: pytest.CaptureFixture[str]) -> None:
    """What was covered around a hole, and a partition whose object is gone, are told by their limits."""
    fresh.object(BORN.date()).unlink()
    other = fresh.catalog.parent / "other"
    fresh.backfill(BORN, BORN + timedelta(days=1), catalog=str(other))
    fresh.backfill(BORN + timedelta(days=2), BORN + timedelta(days=3), catalog=str(other))
    assert checked(fresh, capsys, "--no-lost-objects") == (1, {"lost objects": False})
    fresh.catalog = other
    assert checked(fresh, capsys, "--max-gap", "0") == (1, {"gaps": False})
    assert checked(fresh, capsys, "--max-gap", "1d") == (0, {"gaps": True})


def test_people_read_a_verdict(fresh: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each limit, with what was found, and a verdict at the end."""
    limits = ["--max-lag", "5m", "--max-unparsable", "study_date=1%"]
    assert run(["check", "--catalog", str(fresh.catalog), *limits]) == 1
    out = capsys.readouterr().out
    assert "FAILED" in out
    assert "at most 1 % of them" in out
    assert out.splitlines()[-1] == "Not fit to be used."


@pytest.mark.parametrize("part", ["pages", "footer"])
@pytest.mark.parametrize(
    "command", [["check", "--max-unparsable", "study_date=0"], ["query", "select max(patient_id) from image_sets"]]
)
def test_a_damaged_object_is_named(
    fresh: World, capsys: pytest.CaptureFixture[str], command: list[str], part: str
) -> None:
    """In one line, with what helps, and not as Arrow's or DuckDB's own error."""
    damaged = fresh.object(BORN.date())
    body = bytearray(damaged.read_bytes())
    footer = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
    place = slice(4, footer) if part == "pages" else slice(footer, -8)
    body[place] = b"\xff" * len(body[place])
    damaged.write_bytes(body)
    assert run([command[0], "--catalog", str(fresh.catalog), *command[1:]]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert damaged.relative_to(fresh.catalog).as_posix() in line
    assert "verify --repair" in line


def test_a_column_that_is_always_held_is_refused(fresh: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit on a column that there is not would be met for ever."""
    assert run(["check", "--catalog", str(fresh.catalog), "--max-unparsable", "studydate=1%"]) == 2
    assert "study_date" in capsys.readouterr().err
