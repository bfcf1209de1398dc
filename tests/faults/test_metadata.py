"""Readings of metadata that are killed, overtaken and spoilt: `series` and `instances` end as if nothing had been.

A point is chosen by its seed. To run one again: ``pytest "tests/faults/test_metadata.py::<name>[<kind>-<seed>]"``.
"""

import random
import signal
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import cache

import pytest

from ahi_catalog.connectors.healthimaging.metadata import Left
from tests.faults import warm
from tests.faults.child import RunSpec
from tests.faults.ledger import LEDGER
from tests.faults.meeting import before_the_renewal, hold_and
from tests.faults.place import Place
from tests.faults.reading import Reading, ReadingStage, fill, live, make_reading_stages
from tests.faults.scale import seeds, some
from tests.faults.stages import choose_ending, run_until
from tests.faults.world import BORN, HOUR, METADATA, TODAY, FaultWorld
from tests.support.s3_orders import first_of_each_put
from tests.support.s3_proxy import S3Proxy
from tests.support.world import summary

MakeWorld = Callable[..., FaultWorld]
MakePlace = Callable[[str], Place]
Stages = Callable[[str], dict[str, ReadingStage]]
KINDS = ["throttle", "500", "503", "reset", "cut", "garble", "garble_bytes", "shorten", "conflict", "stall"]
STORE_KINDS = ["slow_down", "internal", "reset", "lost_answer", "applied_internal", "cut", "precondition", "conflict"]


@pytest.fixture(scope="module")
def stages(lasting_world: Callable[[str], FaultWorld], make_place: MakePlace) -> Stages:
    """The stages of each kind of place, set once."""
    return cache(lambda kind: make_reading_stages(lasting_world(kind), lambda: make_place(kind)))


@pytest.fixture
def read_world(make_world: MakeWorld, make_place: MakePlace) -> Callable[..., tuple[FaultWorld, Reading]]:
    """A synced catalog whose metadata is to be read, and what watches the reading."""

    def make(kind: str = "folder") -> tuple[FaultWorld, Reading]:
        world = make_world(kind)
        fill(world)
        world.sync()
        reading = Reading(world, lambda: make_place("folder"))
        reading.expect(world)
        return world, reading

    return make


def end_in_order(world: FaultWorld, reading: Reading) -> None:
    """Quiet, a sync, a backfill for what is deleted, and a reading: then both tables are as they should be."""
    world.witness.note()
    world.service.advance(timedelta(minutes=21))
    world.sync()
    world.backfill(BORN, world.service.now())
    reading.asked.clear()
    expected, published = reading.expect(world), reading.published(world)
    world.read_metadata()
    assert not published & reading.asked.keys()
    assert all(times == 1 for times in reading.asked.values())
    reading.compare(world, expected)


@pytest.mark.parametrize("seed", seeds(short=2, full=100))
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_killed_reading_loses_nothing_that_it_has_published(
    kind: str, seed: int, stages: Stages, proxy: S3Proxy, make_place: MakePlace
) -> None:
    """Killed or stopped at any step, the next reading asks once for what is lacking, for nothing else, and completes.

    With nothing new, the one after that makes no request of metadata.
    """
    LEDGER.seeded(seed)
    choice = random.Random(f"metadata {kind} {seed}")
    name, stage = choice.choice(sorted(stages(kind).items()))
    stage.rehearse(make_place(kind), proxy)
    reading, world = stage.reading, stage.attempt(make_place(kind))
    keywords = stage.settings.get("metadata", METADATA).keyword
    for _ in range(choice.choice([1, 1, 2])):
        sends = choice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        ending = choose_ending(stage, choice, on_s3=kind == "s3")
        print(f"{name}: {sends.name} at {ending}")  # noqa: T201  # shown where the test fails
        published = reading.published(world, *keywords)
        reading.asked.clear()
        ended = run_until(stage, world, ending, proxy, sends)
        # A step may not come in every run: threads take turns.
        assert ended.code in (-sends, 0, 130), ended.error
        assert not published & reading.asked.keys()
        assert published <= reading.published(world, *keywords)
    published = reading.published(world, *keywords)
    reading.asked.clear()
    stage.resume(world)
    assert not published & reading.asked.keys()
    assert all(times == 1 for times in reading.asked.values())
    stage.compare(world)
    reading.asked.clear()
    stage.resume(world)
    assert not reading.asked


def choose_run(world: FaultWorld, choice: random.Random) -> RunSpec:
    """A reading, a sync, or a backfill."""
    job = choice.choice(["metadata", "metadata", "sync", "backfill"])
    start = BORN + choice.randint(0, 4) * 24 * HOUR
    bounds = (start, start + choice.randint(1, 30) * HOUR * 4) if job == "backfill" else None
    return world.spec(job, bounds=bounds, concurrency=choice.randint(1, 4))


@pytest.mark.parametrize("seed", seeds(short=1, full=12))
@pytest.mark.parametrize("kind", some(["folder", "s3"], short=1))
def test_readings_among_other_runs(kind: str, seed: int, read_world: Callable[..., tuple[FaultWorld, Reading]]) -> None:
    """Beside readings, syncs, backfills and a verify that repairs, some killed, while image sets change and go."""
    LEDGER.seeded(seed)
    choice = random.Random(f"{kind} {seed}")
    world, reading = read_world(kind)
    live(world)
    reading.admit_versions(world)
    specs = [world.spec("metadata"), *(choose_run(world, choice) for _ in range(3))]
    children = [world.start(spec) for spec in specs]
    doomed = [child for child in children if choice.random() < 0.3]
    LEDGER.injected("readings among other runs")
    for number in range(4):
        world.update(f"a{choice.randint(0, 30):05d}", DICOMTags={"DICOMStudyId": f"{number}"})
        world.update(f"d{choice.randint(0, 7):05d}", DICOMTags={"DICOMStudyId": f"{number}"})
        reading.admit_versions(world)
        if number == 1:
            world.delete("a00033")
            world.verify(is_repairing=True)
        for child in doomed[number : number + 1]:
            child.send(signal.SIGKILL)
            LEDGER.injected("SIGKILL among others")
    for spec, child in zip(specs, children, strict=True):
        ended = world.finish(spec, child)
        assert ended.code in (0, -signal.SIGKILL), ended.error
    end_in_order(world, reading)


@pytest.mark.parametrize(
    ("what", "put"),
    some([(run, put) for run in ("sync", "backfill", "verify", "metadata") for put in (1, 2, 5)], short=2),
)
def test_a_reading_that_another_run_overtakes(
    what: str, put: int, read_world: Callable[..., tuple[FaultWorld, Reading]]
) -> None:
    """Held before a put of `series` or `instances` while image sets get new versions, go, and are read by another.

    On S3: a folder's lock may be held by another thread of the process that stands still.
    """
    world, reading = read_world("s3")

    def meanwhile() -> None:
        live(world)
        reading.expect(world)
        if what == "backfill":
            world.backfill(BORN, TODAY + HOUR)
        elif what == "verify":
            world.verify(is_repairing=True)
        else:
            world.sync()
        if what == "metadata":
            world.read_metadata()

    hold_and(world, meanwhile, before_the_renewal(put), job="metadata")
    end_in_order(world, reading)


@pytest.mark.parametrize("kind", some(KINDS, short=1))
def test_a_storm_of_one_kind(
    kind: str, read_world: Callable[..., tuple[FaultWorld, Reading]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many requests fail in one way, and some image sets are gone: what could not be read, the next reading reads."""
    monkeypatch.setattr(warm, "read_timeout", 0.3)
    world, reading = read_world()
    for name in ("a00003", "a00031", "d00007"):
        world.delete(name)
    with world.storm([kind], 0.08 if kind == "stall" else 0.25, random.Random(kind)):
        report = world.read_metadata()
    assert report.outcome == "done"
    assert report.metadata is not None
    assert report.metadata.total(Left.GONE) == 3
    assert world.service.counters.faults[kind]
    assert len(reading.published(world)) == report.rows_read
    end_in_order(world, reading)


@pytest.mark.parametrize("kind", some(STORE_KINDS, short=1))
def test_every_conditional_put_is_spoilt_once(
    kind: str,
    read_world: Callable[..., tuple[FaultWorld, Reading]],
    proxy: S3Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Refused, lost, applied or not: every put comes out right, and the reading ends as if nothing had been."""
    monkeypatch.setattr(warm, "read_timeout", 0.4)
    world, reading = read_world("s3")
    expected = reading.expect(world)
    proxy.order(kind, conditional=True, when=first_of_each_put(), times=None)
    assert world.read_metadata().outcome == "done"
    assert proxy.served[kind] >= 10
    reading.compare(world, expected)
    assert set(Counter(reading.asked).values()) == {1}


@pytest.mark.parametrize("seed", seeds(short=1, full=30))
def test_a_storm_of_everything_in_a_process_that_may_die(
    seed: int, read_world: Callable[..., tuple[FaultWorld, Reading]], proxy: S3Proxy
) -> None:
    """Service and store fail in several ways, on both sides of a kill; what is there is right, the next completes."""
    LEDGER.seeded(seed)
    choice = random.Random(seed)
    world, reading = read_world("s3")
    world.service.insert(world.datastore_id, [summary("young", TODAY - timedelta(minutes=11))])
    for kind in choice.sample(STORE_KINDS, 3):
        proxy.order(kind, chance=0.05, seed=seed, method="PUT")
    with world.storm(choice.sample(KINDS, 4), 0.2, choice):
        spec = world.spec("metadata", read_timeout=0.3)
        child = world.start(spec)
        if choice.random() < 0.5:
            while child.is_running and sum(reading.asked.values()) < choice.randint(5, 40):
                reading.look(world)
            child.send(signal.SIGKILL)
            LEDGER.injected("SIGKILL in a storm")
        ended = world.finish(spec, child)
    assert ended.code in (0, 1, -signal.SIGKILL), ended.error
    assert "Traceback" not in ended.error
    proxy.clear()
    reading.look(world)
    end_in_order(world, reading)
