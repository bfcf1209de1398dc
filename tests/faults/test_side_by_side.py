"""Runs side by side on one catalog, in processes of their own: none undoes another's work, whoever is killed."""

import random
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.faults.child import RunSpec
from tests.faults.ledger import LEDGER
from tests.faults.meeting import hold_and, meet_on_an_update, meet_on_half_days
from tests.faults.scale import seeds, some
from tests.faults.stages import begin_synced, change, fill_base
from tests.faults.world import BORN, DAY, HOUR, TODAY, FaultWorld

MakeWorld = Callable[..., FaultWorld]


def choose_run(world: FaultWorld, choice: random.Random) -> RunSpec:
    """A sync, or a backfill of some days."""
    settings: dict[str, Any] = {"concurrency": choice.randint(1, 4), "page_budget": choice.randint(1, 4)}
    if choice.random() < 0.5:
        return world.spec(**settings)
    start = BORN + choice.randint(0, 4) * DAY + choice.choice([timedelta(), HOUR / 2])
    return world.spec("backfill", bounds=(start, start + choice.randint(1, 30) * HOUR * 4), **settings)


@pytest.mark.parametrize("seed", seeds(short=1, full=8))
@pytest.mark.parametrize(("kind", "count"), some([(k, n) for n in (2, 3, 5) for k in ("folder", "s3")], short=3))
def test_runs_side_by_side(kind: str, count: int, seed: int, make_world: MakeWorld) -> None:
    """While two, three or five runs go on, rows change and some runs are killed, the promise holds at every look."""
    LEDGER.seeded(seed)
    choice = random.Random(f"{kind} {count} {seed}")
    world = make_world(kind)
    begin_synced(world)
    change(world)
    specs = [choose_run(world, choice) for _ in range(count)]
    children = [world.start(spec) for spec in specs]
    doomed = {child: choice.randint(1, 4) for child in children if choice.random() < 0.3}
    LEDGER.injected(f"{count} runs side by side")
    looks = 0
    while any(child.is_running for child in children):
        world.witness.look()
        looks += 1
        if looks < 5:
            # Some of it is updated again while the runs read.
            world.update(f"a{choice.randint(0, 229):05d}", DICOMTags={"DICOMStudyId": f"{looks}"})
        for child in [child for child, last in doomed.items() if last <= looks]:
            child.send(signal.SIGKILL)
            del doomed[child]
            LEDGER.injected("SIGKILL among others")
    for spec, child in zip(specs, children, strict=True):
        ended = world.finish(spec, child)
        assert ended.code in (0, -signal.SIGKILL), ended.error
    world.witness.look()
    # The clock stands still: what was updated just now settles first.
    world.service.advance(timedelta(minutes=11))
    world.sync()
    world.witness.compare()


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_two_runs_that_meet_on_one_partition_both_count(kind: str, make_world: MakeWorld) -> None:
    """One run is held before its put while another publishes the same partition; both halves are there."""
    meet_on_half_days(make_world(kind))


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_an_old_version_that_comes_late_does_not_win(kind: str, make_world: MakeWorld) -> None:
    """One run is held with old versions in hand while another publishes new ones; the new ones stay."""
    meet_on_an_update(make_world(kind))


@pytest.mark.parametrize("kind", some(["folder", "s3"], short=1))
def test_a_new_catalog_made_by_five_at_once(kind: str, make_world: MakeWorld) -> None:
    """Five first syncs on an empty place agree on one catalog.json, one checkpoint, and one row an image set."""
    world = make_world(kind)
    fill_base(world)
    specs = [world.spec() for _ in range(5)]
    children = [world.start(spec) for spec in specs]
    LEDGER.injected("5 runs side by side")
    for spec, child in zip(specs, children, strict=True):
        assert world.finish(spec, child).code == 0
    world.witness.compare()


@pytest.mark.parametrize("kind", some(["folder", "s3"], short=1))
def test_a_change_that_was_followed_before_its_range_was_covered(kind: str, make_world: MakeWorld) -> None:
    """A sync leaves out a change in a range that a backfill holds, still old, in its hands; the next one brings it.

    Changes are followed again from where the backfill began, so it does not matter how short the look-back is.
    """
    world = make_world(kind)
    world.fill(60, prefix="a", step=HOUR / 3)
    world.fill(60, prefix="b", start=TODAY - DAY, step=HOUR / 3)
    world.sync(start=TODAY - 2 * DAY, look_back=timedelta())

    def update_and_sync() -> None:
        world.update("a00007", DICOMTags={"DICOMStudyDescription": "newer"})
        world.service.advance(HOUR)
        world.sync(start=TODAY - 2 * DAY, look_back=timedelta())
        assert len(world.witness.look()) == 60

    hold_and(world, update_and_sync, job="backfill", bounds=(BORN, BORN + DAY))
    world.service.advance(HOUR)
    world.sync(start=TODAY - 2 * DAY, look_back=timedelta())
    world.witness.compare()
