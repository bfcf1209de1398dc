"""The stages on which runs are ended: a service that stands still, a catalog to begin with, and the run.

Their data holds what is easily got wrong: a second denser than the page budget, hundreds of equal times, a leap
day, rows exactly on the bounds of days and just before them, updates, deletions.
"""

import json
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar, cast

from ahi_catalog.emulator.idc import RELEASES, load_idc
from tests.faults.child import RunSpec
from tests.faults.ledger import LEDGER
from tests.faults.lines import LinePoint
from tests.faults.place import Place
from tests.faults.world import BORN, DAY, HOUR, MICROSECOND, TODAY, Ended, FaultWorld
from tests.support.s3_orders import Order
from tests.support.s3_proxy import S3Proxy
from tests.support.world import summary

SETTLE = timedelta(minutes=10)


def fill_base(world: FaultWorld) -> None:
    """What is there at TODAY: some 500 image sets of six days."""
    world.fill(230, prefix="a")
    dense = datetime.fromisoformat("2024-02-28T11:11:11.123456+00:00")
    days = [BORN + DAY * number for number in range(1, 5)]
    world.insert(
        *(summary(f"d{number:05d}", dense) for number in range(130)),
        *(summary(f"e{number:05d}", day) for number, day in enumerate(days)),
        *(summary(f"f{number:05d}", day - MICROSECOND) for number, day in enumerate(days)),
        summary("g00000", BORN),
    )
    world.fill(40, start=TODAY - 6 * HOUR, step=timedelta(minutes=5), prefix="l")


_synced: dict[str, bytes] = {}


def begin_synced(world: FaultWorld) -> None:
    """The base in the service, and a catalog that was synced with it; synced once, and laid down after that."""
    fill_base(world)
    if _synced:
        world.place.fill(_synced)
    else:
        world.sync()
        _synced.update(world.place.objects(""))
    world.witness.compare()


def change(world: FaultWorld) -> None:
    """What happens in the two hours after TODAY: new versions of rows of every age, deletions, new image sets."""
    world.service.advance(timedelta(minutes=11))
    for name in ("a00000", "a00117", "a00229", "d00003", "d00129", "e00003", "l00001", "l00020"):
        world.update(name, DICOMTags={"DICOMPatientName": f"Changed^{name}"})
    world.update("a00117", storageTier="ARCHIVE_INSTANT_ACCESS")
    for name in ("l00003", "l00010", "l00011"):
        world.delete(name)
    world.fill(60, start=TODAY + timedelta(minutes=1), step=timedelta(minutes=1), prefix="n")
    world.service.advance(timedelta(minutes=109))


@dataclass(slots=True, kw_only=True)
class Stage:
    """A run to be ended somewhere.

    `STEPS` are the requests to the store, beside lines and requests to the service, at which it can be ended on S3: the
    method, and how the key ends.

    Attributes:
        world: The service and the clients; every attempt has a place of its own.
        base: What lies in the catalog before.
        job, bounds, settings: The run.
        lines: How often each line of the program runs, where nothing ends it.
        requests: How many requests to the service it makes.
        steps: How many there are of each of `STEPS`.
    """

    STEPS: ClassVar[Mapping[str, tuple[str, str]]] = {"put": ("PUT", ""), "checkpoint": ("PUT", "checkpoint.json")}

    world: FaultWorld
    base: Mapping[str, bytes]
    job: str = "sync"
    bounds: tuple[datetime, datetime] | None = None
    settings: Mapping[str, Any]
    lines: Counter[tuple[str, int]]
    requests: int = 0
    steps: dict[str, int] = field(default_factory=dict)

    def attempt(self, place: Place) -> FaultWorld:
        """The world with the catalog as it is before the run, in a place of its own."""
        place.fill(self.base)
        moved = self.world.moved(place)
        moved.witness.look()
        return moved

    def spec(self, world: FaultWorld, **changes: Any) -> RunSpec:
        """The run."""
        return world.spec(self.job, bounds=self.bounds, **{**self.settings, **changes})

    def resume(self, world: FaultWorld, **changes: Any) -> None:
        """The run in this process, to its end."""
        settings = {**self.settings, **changes}
        if self.bounds:
            world.backfill(*self.bounds, **settings)
        else:
            world.sync(**settings)

    def compare(self, world: FaultWorld) -> None:
        """What the run makes is there, row by row."""
        world.witness.compare()

    def rehearse(self, place: Place, proxy: S3Proxy) -> None:
        """Run once without any fault, and count its steps; again: nothing."""
        if self.lines:
            return
        world = self.attempt(place)
        spec = self.spec(world, counts=True)
        proxy.clear()
        orders = {
            name: proxy.call("after", lambda _: None, method=method, key=key)
            for name, (method, key) in self.STEPS.items()
        }
        asked: list[int] = []
        with world.on_request(lambda _, number: asked.append(number)):
            ended = world.finish(spec, world.start(spec))
        assert ended.code == 0, ended.error
        counted = json.loads((spec.output / "lines").read_text())
        self.lines.update({(file, line): times for file, line, times in counted})
        self.requests, self.steps = len(asked), {name: order.served for name, order in orders.items()}
        proxy.clear()
        self.compare(world)


def make_stages(world: FaultWorld, make_place: Callable[[], Place], proxy: S3Proxy) -> dict[str, Stage]:
    """A first sync, a later one, and a backfill; all on one service."""
    begin_synced(world)
    base = world.place.objects("")
    change(world)
    small: dict[str, Any] = {"concurrency": 2, "page_budget": 1, "buffer_bytes": 18_000}
    stages = {
        "first": Stage(world=world, base={}, settings={}, lines=Counter()),
        "first-small": Stage(world=world, base={}, settings=small, lines=Counter()),
        "next": Stage(world=world, base=base, settings={}, lines=Counter()),
        "backfill": Stage(
            world=world,
            base=base,
            job="backfill",
            bounds=(BORN, TODAY + 2 * HOUR),
            settings={"concurrency": 4, "buffer_bytes": 40_000},
            lines=Counter(),
        ),
    }
    for stage in stages.values():
        stage.rehearse(make_place(), proxy)
    return stages


def make_real_stage(world: FaultWorld, make_place: Callable[[], Place], proxy: S3Proxy) -> Stage:
    """A first sync of real series, by months."""
    world.service.clock.freeze(RELEASES[-1] + 30 * DAY)
    load_idc(world.service, world.datastore_id, rows=500)
    settings = {"start": RELEASES[0], "partition": "month", "concurrency": 4}
    stage = Stage(world=world, base={}, settings=settings, lines=Counter())
    stage.rehearse(make_place(), proxy)
    return stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Where a run gets a signal: at a line of its code, a request, or on either side of a put."""

    kind: str
    number: int = 0
    line: LinePoint | None = None

    def __str__(self) -> str:
        return str(self.line) if self.line else f"{self.kind} {self.number}"


def choose_ending(stage: Stage, choice: random.Random, *, on_s3: bool) -> Ending:
    """A step of the run, every line being as likely as any other."""
    kinds = ["line"] * 5 + ["request"] * (2 if stage.requests else 0)
    if on_s3:
        kinds += [f"{name} {side}" for name, count in stage.steps.items() if count for side in ("before", "after")] * 2
    kind = choice.choice(kinds)
    if kind == "line":
        file, line = choice.choice(sorted(stage.lines))
        return Ending(kind=kind, line=LinePoint(file, line, choice.randint(1, stage.lines[file, line])))
    most = stage.requests if kind == "request" else stage.steps[kind.split()[0]]
    return Ending(kind=kind, number=choice.randint(1, most))


def run_until(
    stage: Stage, world: FaultWorld, ending: Ending, proxy: S3Proxy, sends: signal.Signals, **changes: Any
) -> Ended:
    """Run in a process that gets a signal there."""
    spec = stage.spec(world, point=ending.line, sends=sends, **changes)
    with _sending(stage, world, ending, proxy, sends) as started:
        child = world.start(spec)
        started(child.send)
        ended = world.finish(spec, child)
    if ended.code in (-sends, 130):
        LEDGER.injected(f"{sends.name} at {'a line' if ending.line else ending.kind}")
    return ended


@contextmanager
def _sending(
    stage: Stage, world: FaultWorld, ending: Ending, proxy: S3Proxy, sends: signal.Signals
) -> Iterator[Callable[[Callable[[signal.Signals], None]], None]]:
    """While the block runs, the process gets its signal at its request or put; give it to what is yielded."""
    process: Future[Callable[[signal.Signals], None]] = Future()

    def send(*_: object) -> None:
        process.result(timeout=30)(sends)

    if ending.kind == "request":
        with world.on_request(lambda _, number: send() if number == ending.number else None):
            yield process.set_result
        return
    order: Order | None = None
    if ending.kind != "line":
        name, _, side = ending.kind.partition(" ")
        method, key = stage.STEPS[name]
        order = proxy.call(cast("Any", side), send, method=method, key=key, at=[ending.number])
    yield process.set_result
    if order:
        proxy.cancel(order)
