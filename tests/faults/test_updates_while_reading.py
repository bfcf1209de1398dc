"""Endpoints of every habit, complete while the rows that are read change under the reader.

What holds (docs/design.md, section 5):

- A sync misses no row that was there, whatever is updated meanwhile, with tokens that name a row and with tokens that
  count rows, sorted or newest update first; nor does a sync after a backfill.
- The change feed may miss a change where rows leave the range that is walked and tokens count rows: a row that is
  updated again leaves `updatedAt <= upper`, the rows behind it move up by one, and the row that crosses a page's
  bound is not shown. It is read again by the next runs, as long as its change is younger than the look-back
  before their upper bound. Older than that (runs further apart than the look-back), only verify finds it.
- The same with deletions: where tokens count rows, a row that is deleted while it is walked moves the rows behind
  it up. In a walk by createdAt, the row that is passed over is found by the look-back, by a backfill or verify.
"""

import itertools
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from ahi_catalog.pipeline.observers import Progress, watched_by
from ahi_catalog.pipeline.run_report import RunReport
from tests.faults.ledger import LEDGER
from tests.faults.scale import seeds, some
from tests.faults.world import BORN, DAY, HOUR, TODAY, FaultWorld

MakeWorld = Callable[..., FaultWorld]
HABITS: list[dict[str, Any]] = [
    {},
    {"offset_tokens": True},
    {"ignore_sort": True},
    {"ignore_sort": True, "offset_tokens": True},
    {"older_api": True},
    {"older_api": True, "offset_tokens": True},
]
MINUTE = timedelta(minutes=1)


def updating(world: FaultWorld, choice: random.Random, names: list[str], most: int) -> Callable[[str, int], None]:
    """For each of the first requests: time passes, and a few image sets are updated."""

    def update(_: str, number: int) -> None:
        if number <= most:
            for name in choice.sample(names, choice.randint(1, 3)):
                world.service.advance(timedelta(milliseconds=choice.choice([1, 300, 1000])))
                world.update(name, DICOMTags={"DICOMStudyId": f"{number}"})
                LEDGER.injected("updates while a run reads")

    return update


@pytest.mark.parametrize("options", some(HABITS, short=3), ids=str)
@pytest.mark.parametrize("seed", seeds(short=1, full=12))
def test_syncs_are_complete_under_updates(seed: int, options: dict[str, Any], make_world: MakeWorld) -> None:
    """No row is missing right after the first sync; changes made while two syncs read are there after a quiet one."""
    LEDGER.seeded(seed)
    choice = random.Random(f"{seed} {options}")
    world = make_world(**options)
    world.fill(420, prefix="a")
    names = [f"a{number:05d}" for number in range(420)]
    settings: dict[str, Any] = {"page_budget": choice.randint(1, 6), "concurrency": choice.randint(1, 4)}
    with world.on_request(updating(world, choice, names, 40)):
        world.sync(**settings)
    assert len(world.witness.look()) == 420
    world.fill(120, start=TODAY + MINUTE, step=MINUTE / 2, prefix="n")
    for name in choice.sample(names, 130):
        world.update(name, DICOMTags={"DICOMStudyId": "between"})
    world.service.advance(2 * HOUR)
    with world.on_request(updating(world, choice, names, 40)):
        world.sync(**settings)
    assert len(world.witness.look()) == 540
    world.service.advance(HOUR)
    world.sync()
    world.witness.compare()


@pytest.mark.parametrize("options", HABITS, ids=str)
def test_a_sync_after_a_backfill_is_complete_under_updates(options: dict[str, Any], make_world: MakeWorld) -> None:
    """What a backfill passes over while rows are updated, the next sync brings, though updates go on meanwhile."""
    choice = random.Random(f"{options}")
    world = make_world(**options)
    world.fill(300, prefix="a")
    names = [f"a{number:05d}" for number in range(300)]
    with world.on_request(updating(world, choice, names, 30)):
        world.backfill(BORN, TODAY, concurrency=2)
    with world.on_request(updating(world, choice, names, 30)):
        world.sync(concurrency=2)
    assert len(world.witness.look()) == 300
    world.service.advance(HOUR)
    world.sync()
    world.witness.compare()


def settled_changes(world: FaultWorld, count: int) -> list[str]:
    """So many changes, one a second, oldest first, long enough ago to be followed by the next sync."""
    names = [f"a{number:05d}" for number in range(count)]
    for name in names:
        world.service.advance(timedelta(seconds=1))
        world.update(name, DICOMTags={"DICOMStudyId": "changed"})
    return names


def stale(world: FaultWorld) -> set[str]:
    """Image sets whose row is not the newest."""
    rows = world.witness.look()
    world.witness.note()
    now = {row["imageSetId"]: row for row in world.service.rows(world.datastore_id)}
    return {name.lstrip("0") for name, row in rows.items() if row["version"] != now[name]["version"]}


class Phases:
    """Knows what a run is doing, as an observer of it."""

    def __init__(self) -> None:
        self.phase = ""

    def progressed(self, progress: Progress) -> None:
        self.phase = progress.phase

    def finished(self, report: RunReport) -> None:
        assert report.outcome == "done"


def sync_and_before_page(number: int, world: FaultWorld, phase: str, call: Callable[[], None]) -> None:
    """Sync with one reader; before a page of a phase is answered, something happens."""
    phases = Phases()
    pages = itertools.count(1)

    def count_pages(operation: str, _: int) -> None:
        if operation == "SearchImageSets" and phases.phase == phase and next(pages) == number:
            call()
            LEDGER.injected("rows that leave under offset tokens")

    with watched_by(phases), world.on_request(count_pages):
        world.sync(concurrency=1, page_budget=40)


@pytest.mark.parametrize("apart", [2 * HOUR, 3 * DAY], ids=["within the look-back", "further apart"])
def test_what_the_change_feed_passes_over_with_offset_tokens(apart: timedelta, make_world: MakeWorld) -> None:
    """One change at a page's bound is passed over; the next run's look-back brings it, or else reading it again."""
    world = make_world(offset_tokens=True)
    world.fill(150, prefix="a")
    world.sync()
    names = settled_changes(world, 120)
    world.service.advance(apart)

    def update_what_was_read() -> None:
        world.update(names[10], DICOMTags={"DICOMStudyId": "again"})

    sync_and_before_page(2, world, "following changes", update_what_was_read)
    assert stale(world) == {names[50]}
    world.service.advance(HOUR)
    world.sync()
    if apart > DAY:
        assert stale(world) == {names[50]}
        world.backfill(BORN, TODAY)
    world.witness.compare()


def test_tokens_that_name_a_row_pass_nothing_over(make_world: MakeWorld) -> None:
    """The same with tokens as AWS's are taken to be: the row that changed again comes at the end of the feed."""
    world = make_world()
    world.fill(150, prefix="a")
    world.sync()
    names = settled_changes(world, 120)
    world.service.advance(2 * HOUR)
    sync_and_before_page(
        2, world, "following changes", lambda: world.update(names[10], DICOMTags={"DICOMStudyId": "again"})
    )
    assert not stale(world)


@pytest.mark.parametrize("start", [BORN, TODAY - 6 * HOUR], ids=["long ago", "within the look-back"])
@pytest.mark.parametrize("options", [{"offset_tokens": True}, {"older_api": True, "offset_tokens": True}], ids=str)
def test_what_a_deletion_hides_with_offset_tokens(
    start: datetime, options: dict[str, Any], make_world: MakeWorld
) -> None:
    """A deletion in the part already read moves one row over a page's bound; look-back or backfill brings that row."""
    world = make_world(**options)
    world.fill(150, start=start, step=MINUTE, prefix="a")
    names = [f"a{number:05d}" for number in range(150)]
    deleted, hidden, page = (names[140], names[49], 3) if "older_api" in options else (names[10], names[50], 2)
    world.late.add(hidden.rjust(32, "0"))
    sync_and_before_page(page, world, "reading image sets", lambda: world.delete(deleted))
    rows = world.witness.look()
    # Where the service does not sort, the same run follows the changes of the look-back.
    is_found = "older_api" in options and start > BORN
    assert {name for name in names if name.rjust(32, "0") not in rows} == (set() if is_found else {hidden})
    world.late.clear()
    if start == BORN:
        world.backfill(BORN, TODAY)
    else:
        world.service.advance(HOUR)
        world.sync()
    world.witness.compare()
