"""The service's side: throttled, failing, slow, cut, garbled, tokens that expire or repeat, pages out of order."""

import random
import signal
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.faults import warm
from tests.faults.ledger import LEDGER
from tests.faults.scale import seeds, some
from tests.faults.stages import begin_synced, change, fill_base
from tests.faults.world import HOUR, FaultWorld
from tests.support.world import summary

MakeWorld = Callable[..., FaultWorld]
KINDS = ["throttle", "500", "503", "reset", "cut", "garble", "garble_bytes", "stall", "repeat_token", "swap_order"]


@pytest.mark.parametrize("kind", some(KINDS, short=4))
def test_a_storm_of_one_kind(kind: str, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the requests fail in one way; sync, changes and all are complete in spite of it."""
    monkeypatch.setattr(warm, "read_timeout", 0.3)
    world = make_world()
    fill_base(world)
    chance = {"stall": 0.15, "repeat_token": 0.15, "swap_order": 0.15}.get(kind, 0.25)
    choice = random.Random(kind)
    with world.storm([kind], chance, choice):
        world.sync()
        world.witness.look()
        change(world)
        world.sync()
    assert world.service.counters.faults[kind]
    world.witness.compare()


@pytest.mark.parametrize("seed", seeds(short=1, full=30))
def test_a_storm_of_everything_in_a_process_that_may_die(seed: int, make_world: MakeWorld) -> None:
    """Several kinds at once on both sides of a kill; the promise holds at once, and the next run completes."""
    LEDGER.seeded(seed)
    choice = random.Random(seed)
    world = make_world()
    begin_synced(world)
    change(world)
    kinds = choice.sample([kind for kind in KINDS if kind not in ("swap_order", "repeat_token")], 4)
    with world.storm(kinds, 0.3, choice):
        spec = world.spec(read_timeout=0.3, page_budget=1)
        child = world.start(spec)
        if choice.random() < 0.5:
            while child.is_running and sum(world.service.counters.requests.values()) < choice.randint(12, 40):
                world.witness.look()
            child.send(signal.SIGKILL)
            LEDGER.injected("SIGKILL in a storm")
        ended = world.finish(spec, child)
        assert ended.code in (0, -signal.SIGKILL), ended.error
    world.witness.look()
    world.sync()
    world.witness.compare()


@pytest.mark.parametrize("seed", seeds(short=1, full=10))
def test_page_tokens_that_expire(seed: int, make_world: MakeWorld) -> None:
    """The clock jumps past the life of page tokens while they are in use; walks begin again where they were.

    At most five times a run, which is as often as a walk begins again within one second.
    """
    LEDGER.seeded(seed)
    choice = random.Random(seed)
    world = make_world(token_ttl=60.0)
    fill_base(world)
    jumps: list[int] = []

    def jump(_: str, __: int) -> None:
        if jumps[-1] < 5 and choice.random() < 0.2:
            world.service.advance(timedelta(seconds=61))
            jumps[-1] += 1

    with world.on_request(jump):
        jumps.append(0)
        world.sync(page_budget=5)
        change(world)
        jumps.append(0)
        world.sync(page_budget=5)
    LEDGER.injected("service: page tokens expire", sum(jumps))
    assert sum(jumps)
    world.service.advance(HOUR)
    world.sync()
    world.witness.compare()


@pytest.mark.parametrize("skew", [HOUR, -HOUR], ids=["fast", "slow"])
def test_a_client_whose_clock_is_an_hour_off(skew: timedelta, make_world: MakeWorld) -> None:
    """Nothing behind the service's own clock less the settle time is covered, whatever the client's clock says."""
    world = make_world(visibility_lag=600.0)
    fill_base(world)
    for number in range(6):
        moment = world.service.now()
        world.insert(*(summary(f"k{number}{n:03d}", moment - timedelta(seconds=7 * n)) for n in range(20)))
        world.update(f"a{number:05d}", DICOMTags={"DICOMStudyId": f"{number}"})
        world.service.advance(timedelta(minutes=25))
        world.sync(now=world.service.now() + (skew if number % 2 else -skew))
        LEDGER.injected("client's clock an hour off")
        world.witness.look()
    world.service.advance(HOUR)
    world.sync()
    world.witness.compare()
