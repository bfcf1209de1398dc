"""Two runs that meet on one partition: the first is held just before its put while the second runs to its end."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from tests.faults.ledger import LEDGER
from tests.faults.lines import LinePoint, line_of
from tests.faults.world import BORN, DAY, HOUR, FaultWorld


def before_the_put(occurrence: int = 1) -> LinePoint:
    """Just before a partition is put for the so-manieth time; no lock is held there."""
    return line_of("connectors/catalog/publishing.py", "store.put(batch.key, body", occurrence)


def before_the_renewal(occurrence: int = 1) -> LinePoint:
    """Just before a partition of `series` or `instances` is put, by a reading of metadata."""
    return line_of("connectors/catalog/publishing.py", "store.put(key, body", occurrence)


def before_the_commit() -> LinePoint:
    """Just before a mirror commits, with all copies made."""
    return line_of("connectors/iceberg/mirror.py", "_commit(found, difference.delete")


def before_the_orphans() -> LinePoint:
    """Just before an expiry looks for copies that no snapshot names."""
    return line_of("connectors/iceberg/history.py", "orphans = {path for path in")


@contextmanager
def holding(world: FaultWorld, at: LinePoint | None = None, **run: Any) -> Iterator[None]:
    """A run in a process of its own is held before its first put of a partition, or elsewhere, while the block runs."""
    spec = world.spec(**run, point=at or before_the_put(), sends=signal.SIGSTOP)
    child = world.start(spec)
    assert child.wait_until_stopped(), world.finish(spec, child).error
    try:
        yield
    finally:
        child.send(signal.SIGCONT)
    ended = world.finish(spec, child)
    assert ended.code == 0, ended.error
    LEDGER.injected("runs that meet before a put")


def hold_and(world: FaultWorld, meanwhile: Callable[[], object], at: LinePoint | None = None, **first: Any) -> None:
    """Hold a run while something else happens."""
    with holding(world, at, **first):
        meanwhile()


def meet_on_half_days(world: FaultWorld, breaks: str | None = None) -> None:
    """Two backfills, each of half a day, publish the same partition; neither may undo the other."""
    world.fill(120, step=HOUR / 5, prefix="a")
    noon = BORN + DAY / 2

    def backfill(start: datetime, end: datetime) -> dict[str, Any]:
        return {"job": "backfill", "bounds": (start, end), "breaks": breaks}

    def second() -> None:
        ended = world.run_apart(**backfill(noon, BORN + DAY))
        assert ended.code == 0, ended.error
        world.witness.look()

    hold_and(world, second, **backfill(BORN, noon))
    world.witness.compare()


def meet_on_an_update(world: FaultWorld, breaks: str | None = None) -> None:
    """A run that read an old version publishes it after another one has published the new version."""
    world.fill(60, step=HOUR / 3, prefix="a")
    world.sync()

    def update_and_sync() -> None:
        for name in ("a00000", "a00007", "a00031"):
            world.update(name, DICOMTags={"DICOMStudyDescription": "newer"})
        world.service.advance(HOUR)
        ended = world.run_apart(breaks=breaks)
        assert ended.code == 0, ended.error
        world.witness.compare()

    # The first run has something of its own to write: an older change.
    world.update("a00005", DICOMTags={"DICOMStudyDescription": "older"})
    world.service.advance(HOUR)
    hold_and(world, update_and_sync, job="backfill", bounds=(BORN, BORN + DAY), breaks=breaks)
    world.witness.compare()
