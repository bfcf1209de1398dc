"""The suite would notice: the program is broken on purpose in several ways, and each is caught."""

import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.faults.breakage import BREAKAGES
from tests.faults.ledger import LEDGER
from tests.faults.meeting import before_the_renewal, meet_on_an_update, meet_on_half_days
from tests.faults.mirrors import Mirrors, expire_beside_a_mirror, meet_in_a_first_mirror
from tests.faults.place import Place
from tests.faults.reading import Reading, ReadingStage, fill, live
from tests.faults.scale import some
from tests.faults.stages import Ending, Stage, choose_ending, fill_base, run_until
from tests.faults.witness import PromiseBrokenError
from tests.faults.world import FaultWorld
from tests.support.s3_proxy import S3Proxy

MakeWorld = Callable[..., FaultWorld]
OpenMirrors = Callable[[str, FaultWorld], Mirrors]


@pytest.fixture(autouse=True)
def rehearsal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What broken code loses is not counted as lost."""
    monkeypatch.setattr(LEDGER, "is_rehearsal", True)
    yield
    assert len(BREAKAGES) == 8


@pytest.mark.parametrize("kind", some(["folder", "s3"], short=1))
def test_coverage_before_publishing_is_caught(
    kind: str, make_world: MakeWorld, proxy: S3Proxy, make_place: Callable[[str], Place]
) -> None:
    """Killed at one of a few seeded points, the run leaves a covered range without its rows."""
    world = make_world(kind)
    fill_base(world)
    stage = Stage(world=world, base={}, settings={}, lines=Counter())
    stage.rehearse(make_place(kind), proxy)
    choice = random.Random(1)

    def kill_and_look() -> None:
        for _ in range(40):
            attempt = stage.attempt(make_place(kind))
            ending = choose_ending(stage, choice, on_s3=kind == "s3")
            run_until(stage, attempt, ending, proxy, signal.SIGKILL, breaks="cover_first")
            attempt.witness.look()

    with pytest.raises(PromiseBrokenError, match="lost"):
        kill_and_look()


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_puts_without_a_condition_are_caught(kind: str, make_world: MakeWorld) -> None:
    """Of two runs that meet on one partition, the last writer undoes the first one's work."""
    with pytest.raises(PromiseBrokenError, match="lost"):
        meet_on_half_days(make_world(kind), breaks="put_unconditionally")


@pytest.mark.parametrize("kind", some(["folder", "s3"], short=1))
def test_merging_by_arrival_is_caught(kind: str, make_world: MakeWorld) -> None:
    """A run that read before an update and publishes after it brings the old version back."""
    with pytest.raises(PromiseBrokenError, match="altered"):
        meet_on_an_update(make_world(kind), breaks="merge_by_arrival")


def make_reading_stage(world: FaultWorld, make_place: Callable[[], Place]) -> ReadingStage:
    """A first reading."""
    fill(world)
    world.sync()
    reading = Reading(world, make_place)
    return ReadingStage(
        world=world,
        base=world.place.objects(""),
        settings={},
        lines=Counter(),
        reading=reading,
        expected=reading.expect(world),
    )


@pytest.mark.parametrize("kind", some(["folder", "s3"], short=1))
def test_series_without_instances_are_caught(
    kind: str, make_world: MakeWorld, make_place: Callable[[str], Place]
) -> None:
    """A reading that publishes one table of two is short of rows."""
    stage = make_reading_stage(make_world(kind), lambda: make_place(kind))
    assert stage.world.run_apart("metadata", breaks="publish_series_alone").code == 0
    with pytest.raises(PromiseBrokenError, match="lost"):
        stage.compare(stage.world)


@pytest.mark.parametrize("kind", some(["folder", "s3"], short=1))
def test_marking_as_read_what_is_not_is_caught(
    kind: str, make_world: MakeWorld, make_place: Callable[[str], Place], proxy: S3Proxy
) -> None:
    """Killed between the puts of `series` and `instances`, the run leaves what the next one takes for read."""
    stage = make_reading_stage(make_world(kind), lambda: make_place(kind))

    def kill_and_go_on() -> None:
        for number in range(2, 13):
            attempt = stage.attempt(make_place(kind))
            line = before_the_renewal(number) if kind == "folder" else None
            ending = Ending(kind="line" if line else "series after", number=number // 2, line=line)
            assert run_until(stage, attempt, ending, proxy, signal.SIGKILL).code == -signal.SIGKILL
            assert attempt.run_apart("metadata", breaks="trust_series_alone").code == 0
            stage.compare(attempt)

    with pytest.raises(PromiseBrokenError, match="lost"):
        kill_and_go_on()


@pytest.mark.parametrize("kind", some(["folder", "s3"], short=1))
def test_a_commit_without_a_check_is_caught(kind: str, make_world: MakeWorld, open_mirrors: OpenMirrors) -> None:
    """Of two mirrors that meet, the second adds what is there by then."""
    world = make_world(kind)
    fill(world)
    world.sync()
    with pytest.raises(PromiseBrokenError, match="doubled"):
        meet_in_a_first_mirror(open_mirrors(kind, world), breaks="commit_unchecked")


@pytest.mark.parametrize("kind", some(["folder", "s3"], short=1))
def test_a_mirror_that_drops_a_partition_is_caught(kind: str, make_world: MakeWorld, open_mirrors: OpenMirrors) -> None:
    """A partition that the catalog has and the tables have not is a loss."""
    world = make_world(kind)
    fill(world)
    world.sync()
    mirrors = open_mirrors(kind, world)
    mirrors.run(breaks="drop_a_partition")
    with pytest.raises(PromiseBrokenError, match="lost"):
        mirrors.compare()


@pytest.mark.parametrize("kind", some(["folder", "s3"], short=1))
def test_an_expiry_that_takes_too_much_is_caught(kind: str, make_world: MakeWorld, open_mirrors: OpenMirrors) -> None:
    """A snapshot names a copy that was deleted while its run was under way."""
    world = make_world(kind)
    fill(world)
    world.sync()
    mirrors = open_mirrors(kind, world)
    mirrors.run()
    world.witness.note()
    live(world)
    with pytest.raises(PromiseBrokenError, match="is gone"):
        expire_beside_a_mirror(mirrors, breaks="take_copies_for_orphans")
