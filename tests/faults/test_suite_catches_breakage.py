"""The suite would notice: the program is broken on purpose in three ways, and each is caught."""

import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.faults.breakage import BREAKAGES
from tests.faults.ledger import LEDGER
from tests.faults.meeting import meet_on_an_update, meet_on_half_days
from tests.faults.place import Place
from tests.faults.scale import some
from tests.faults.stages import Stage, choose_ending, fill_base, run_until
from tests.faults.witness import PromiseBrokenError
from tests.faults.world import FaultWorld
from tests.support.s3_proxy import S3Proxy

MakeWorld = Callable[..., FaultWorld]


@pytest.fixture(autouse=True)
def rehearsal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What broken code loses is not counted as lost."""
    monkeypatch.setattr(LEDGER, "is_rehearsal", True)
    yield
    assert len(BREAKAGES) == 3


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


@pytest.mark.parametrize("kind", some(["folder", "s3"], short=1))
def test_puts_without_a_condition_are_caught(kind: str, make_world: MakeWorld) -> None:
    """Of two runs that meet on one partition, the last writer undoes the first one's work."""
    with pytest.raises(PromiseBrokenError, match="lost"):
        meet_on_half_days(make_world(kind), breaks="put_unconditionally")


@pytest.mark.parametrize("kind", some(["folder", "s3"], short=1))
def test_merging_by_arrival_is_caught(kind: str, make_world: MakeWorld) -> None:
    """A run that read before an update and publishes after it brings the old version back."""
    with pytest.raises(PromiseBrokenError, match="altered"):
        meet_on_an_update(make_world(kind), breaks="merge_by_arrival")
