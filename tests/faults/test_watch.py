"""A watch that is killed at seeded points while image sets arrive, change and vanish; then the promise holds.

To run a point again: ``pytest "tests/faults/test_watch.py::<name>[<kind>-<seed>]"``.
"""

import json
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count

import pytest

from tests.faults.child import RunSpec
from tests.faults.ledger import LEDGER
from tests.faults.lines import LinePoint
from tests.faults.place import Place
from tests.faults.scale import seeds
from tests.faults.world import BORN, TODAY, Ended, FaultWorld
from tests.faults.zygote import Child
from tests.support.s3_proxy import S3Proxy
from tests.support.world import summary

MakeWorld = Callable[..., FaultWorld]


def fill(world: FaultWorld) -> None:
    """Some days of image sets, and some that have not settled."""
    world.fill(90, prefix="a")
    world.fill(20, start=TODAY - timedelta(minutes=15), step=timedelta(seconds=45), prefix="y")


@contextmanager
def living(world: FaultWorld, choice: random.Random, send: Callable[[int], None]) -> Iterator[None]:
    """While the block runs, each request meets a service that has changed since the one before."""
    young = [
        name.lstrip("0")
        for name in (row["imageSetId"] for row in world.service.rows(world.datastore_id))
        if name.lstrip("0").startswith(("y", "n"))
    ]

    def live(operation: str, number: int) -> None:
        del operation
        world.service.advance(timedelta(seconds=7))
        if choice.random() < 0.4:
            young.append(f"n{next(_names):05d}")
            world.insert(summary(young[-1], world.service.now() - timedelta(seconds=1)))
        if choice.random() < 0.3:
            world.update(choice.choice([*young, "a00003", "a00077"]), DICOMTags={"DICOMStudyId": f"{number}"})
        if choice.random() < 0.2:
            world.delete(young.pop(choice.randrange(len(young))))
        send(number)

    with world.on_request(live):
        yield


def run_watch(
    world: FaultWorld, choice: random.Random, spec: RunSpec, *, at_request: int = 0, sends: signal.Signals
) -> Ended:
    """A watch of some passes in a process of its own, which may get a signal when it makes a request."""
    started: list[Child] = []

    def send(number: int) -> None:
        if number == at_request and started:
            started[0].send(sends)

    with living(world, choice, send):
        started.append(world.start(spec))
        return world.finish(spec, started[0])


_names = count()
_rehearsed: dict[str, Counter[tuple[str, int]]] = {}


def lines_of(kind: str, world: FaultWorld, place: Place) -> Counter[tuple[str, int]]:
    """How often each line runs in a watch that nothing ends; counted once for each kind of place."""
    if kind not in _rehearsed:
        # A data store of its own on the same service: the process that forks runs knows one endpoint.
        rehearsal = world.moved(place, world.service.create_datastore(name="rehearsal", created_at=BORN))
        fill(rehearsal)
        spec = rehearsal.spec("watch", counts=True)
        ended = run_watch(rehearsal, random.Random(0), spec, sends=signal.SIGKILL)
        world.service.clock.freeze(TODAY)
        assert ended.code == 130, ended.error
        counted = json.loads((spec.output / "lines").read_text())
        _rehearsed[kind] = Counter({(file, line): times for file, line, times in counted})
    return _rehearsed[kind]


@pytest.mark.parametrize("seed", seeds(short=6, full=100))
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_killed_watch_breaks_no_promise_and_the_next_one_completes(
    kind: str, seed: int, make_world: MakeWorld, make_place: Callable[[str], Place], proxy: S3Proxy
) -> None:
    """Killed or stopped twice, at a line or a request: nothing covered is missing, nothing doubled or gone back."""
    LEDGER.seeded(seed)
    world = make_world(kind)
    lines = lines_of(kind, world, make_place(kind))
    fill(world)
    proxy.clear()
    choice = random.Random(f"watch {kind} {seed}")
    for _ in range(2):
        sends = choice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        point, at_request = None, choice.randint(2, 25)
        if choice.random() < 0.7:
            file, line = choice.choice(sorted(lines))
            point, at_request = LinePoint(file, line, choice.randint(1, lines[file, line])), 0
        print(f"{sends.name} at {point or f'request {at_request}'}")  # noqa: T201  # shown where the test fails
        spec = world.spec("watch", point=point, sends=sends)
        ended = run_watch(world, choice, spec, at_request=at_request, sends=sends)
        # A step may not come in every run: threads take turns.
        assert ended.code in (-sends, 130), ended.error
        LEDGER.injected(f"{sends.name} of a watch")
        world.witness.look()
    world.run_apart("watch")
    world.service.advance(timedelta(hours=1))
    world.sync()
    world.witness.compare()


@pytest.mark.parametrize("seed", seeds(short=2, full=20))
def test_a_watch_outlives_its_store_and_its_service(seed: int, make_world: MakeWorld, proxy: S3Proxy) -> None:
    """Both are away in turn for longer than a pass retries; the watch goes on, and at its end the promise holds."""
    LEDGER.seeded(seed)
    world = make_world("s3")
    fill(world)
    world.sync()
    proxy.clear()
    choice = random.Random(seed)
    first = choice.randint(2, 12)
    proxy.order("slow_down", method="PUT", at=range(first, first + 30))
    world.service.faults.add("503", next=choice.randint(3, 6), operation="SearchImageSets")
    ended = run_watch(world, choice, world.spec("watch", max_attempts=2), sends=signal.SIGKILL)
    assert ended.code == 130, ended.error
    assert ended.report
    assert ended.report["failed_passes"] > 0
    world.witness.look()
    world.service.advance(timedelta(hours=1))
    world.sync()
    world.witness.compare()
