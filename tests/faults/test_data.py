"""The data's side: late rows, equal times, dense seconds, rows on every bound, leap days, nothing at all."""

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.faults.ledger import LEDGER
from tests.faults.scale import seeds, some
from tests.faults.stages import change, fill_base
from tests.faults.world import BORN, DAY, HOUR, MICROSECOND, TODAY, FaultWorld
from tests.support.world import summary

MakeWorld = Callable[..., FaultWorld]
BOUNDS: list[dict[str, Any]] = [
    {},
    {"between_inclusive": False},
    {"truncate_filter_seconds": True},
    {"truncate_filter_seconds": True, "between_inclusive": False},
]
ORDERS: list[dict[str, Any]] = [{}, {"ignore_sort": True}, {"older_api": True}]
MINUTE = timedelta(minutes=1)
SETTLE = timedelta(minutes=10)


@pytest.mark.parametrize("seed", seeds(short=1, full=20))
def test_rows_that_become_searchable_up_to_the_settle_time_late(seed: int, make_world: MakeWorld) -> None:
    """Rows arrive, change and go while syncs run every few minutes; all that is covered is there at every look."""
    LEDGER.seeded(seed)
    choice = random.Random(seed)
    world = make_world(visibility_lag=choice.choice([600.0, 599.0, 300.0]))
    world.fill(30, prefix="a")
    world.service.advance(HOUR)
    for number in range(8):
        now = world.service.now()
        moments = [now - timedelta(seconds=choice.choice([0, 0, 1, 7, 59])) for _ in range(12)]
        world.insert(*(summary(f"b{number:02d}{n:03d}", moment) for n, moment in enumerate(moments)))
        world.update(f"a{choice.randint(0, 29):05d}", DICOMTags={"DICOMStudyId": f"{number}"})
        world.service.advance(timedelta(seconds=choice.choice([1, 60, 290, 600, 601])))
        LEDGER.injected("rows that become searchable late", len(moments))
        world.sync(concurrency=choice.randint(1, 4))
        world.witness.look()
    world.service.advance(HOUR)
    world.sync()
    world.witness.compare()


def test_a_row_later_than_the_settle_time_is_caught_although_a_run_was_stopped(make_world: MakeWorld) -> None:
    """Days pass, a run covers the new days and is stopped before it looks back: the change feed brings the late row."""
    lag = 3 * HOUR
    world = make_world(visibility_lag=lag.total_seconds())
    world.fill(30, prefix="a")
    late = summary("late", TODAY - SETTLE - MINUTE)
    world.insert(late)
    world.late.add(late["imageSetId"])
    world.sync()
    assert late["imageSetId"] not in world.witness.look()
    world.service.advance(4 * DAY)
    world.fill(300, start=TODAY + HOUR, step=15 * MINUTE, prefix="n")
    stop = threading.Event()
    with world.on_request(lambda _, number: stop.set() if number == 9 else None):
        report = world.sync(stop, page_budget=1, concurrency=4)
    assert report.outcome == "stopped"
    LEDGER.injected("stop before the look-back is read")
    world.witness.look()
    world.late.clear()
    world.service.advance(lag)
    world.sync()
    world.witness.compare()


def on_bounds(unit: timedelta, first: datetime, count: int) -> list[datetime]:
    """Moments on bounds, a microsecond before and after, and at the ends of the second around them."""
    around = [timedelta(), -MICROSECOND, MICROSECOND, timedelta(seconds=-1), timedelta(microseconds=999_999)]
    return [first + unit * number + step for number in range(count) for step in around]


@pytest.mark.parametrize(
    ("partition", "options"), some([(unit, o) for unit in ("day", "month") for o in BOUNDS], short=2)
)
def test_rows_on_every_bound(partition: str, options: dict[str, Any], make_world: MakeWorld) -> None:
    """Rows exactly on days, months, leap days and window bounds have one row each, whatever BETWEEN means."""
    world = make_world(**options)
    start = datetime(2023, 12, 30, tzinfo=UTC)
    moments = [
        *on_bounds(DAY, start, 4),
        *on_bounds(DAY, datetime(2024, 2, 28, tzinfo=UTC), 4),
        *on_bounds(DAY, datetime(2020, 2, 29, tzinfo=UTC), 2),
        *on_bounds(SETTLE, TODAY - 2 * SETTLE, 3),
    ]
    world.insert(*(summary(f"b{number:05d}", moment) for number, moment in enumerate(moments)))
    settings: dict[str, Any] = {"start": datetime(2020, 2, 28, tzinfo=UTC), "partition": partition, "page_budget": 1}
    # The windows of one run begin where those of the run before ended: on rows.
    for now in (TODAY - SETTLE, TODAY, TODAY + SETTLE, TODAY + HOUR):
        world.sync(now=now, look_back=timedelta(), **settings)
        world.witness.look()
    world.service.advance(HOUR)
    world.sync(**settings)
    world.witness.compare()
    for cut in (start + DAY, datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC), TODAY - SETTLE):
        world.backfill(cut - DAY, cut, partition=partition)
        world.backfill(cut, cut + DAY, partition=partition)
    world.witness.compare()


@pytest.mark.parametrize(("kind", "options"), some([(kind, o) for kind in ("folder", "s3") for o in ORDERS], short=2))
def test_a_second_denser_than_the_budget_that_changes(
    kind: str, options: dict[str, Any], make_world: MakeWorld
) -> None:
    """Hundreds of equal times, in one second and on its ends, with updates among them, by pages of one."""
    world = make_world(kind, **options)
    second = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)
    moments = [second, second + timedelta(microseconds=999_999), second + timedelta(seconds=1)]
    world.insert(*(summary(f"d{number:05d}", moments[number % 3]) for number in range(600)))
    world.sync(page_budget=1)
    world.witness.compare()
    for number in range(0, 600, 23):
        world.update(f"d{number:05d}", DICOMTags={"DICOMStudyId": "again"})
    world.service.advance(HOUR)
    world.sync(page_budget=1)
    world.witness.compare()


@pytest.mark.parametrize("partition", ["day", "month"])
def test_an_empty_data_store_and_its_first_row(partition: str, make_world: MakeWorld) -> None:
    """Syncs and backfills of nothing cover and leave nothing; the first row, then its deletion, are followed."""
    world = make_world()
    for _ in range(2):
        assert world.sync(partition=partition).new == 0
        world.backfill(BORN, TODAY, partition=partition)
        world.witness.compare()
        assert not world.place.objects("image_sets/")
    world.service.advance(HOUR)
    world.insert(summary("first", world.service.now()))
    world.service.advance(HOUR)
    world.sync()
    world.witness.compare()
    world.delete("first")
    world.service.advance(HOUR)
    world.sync()
    world.witness.compare()


def test_months_hold_the_same_rows_through_changes(make_world: MakeWorld) -> None:
    """With monthly partitions too, updates, deletions and new rows end in one row an image set."""
    world = make_world()
    fill_base(world)
    world.sync(partition="month")
    change(world)
    world.sync()
    world.witness.compare()
