"""S3's side: whatever a store answers, loses or holds back, nothing is lost and nothing doubled."""

import random
from collections.abc import Callable

import pytest

from ahi_catalog.connectors.errors import AhiCatalogError
from tests.faults import warm
from tests.faults.ledger import LEDGER
from tests.faults.scale import seeds, some
from tests.faults.stages import begin_synced, change, fill_base
from tests.faults.world import BORN, HOUR, TODAY, FaultWorld
from tests.support.s3_orders import FAULTS, first_of_each_put
from tests.support.s3_proxy import S3Proxy

MakeWorld = Callable[..., FaultWorld]
PASSING = ["slow_down", "internal", "reset", "stall", "lost_answer", "late_answer", "applied_internal", "cut"]
UNREADABLE = [*(kind for kind in PASSING if FAULTS[kind].delivery != "whole"), "garble"]
CONFLICTS = ["precondition", "conflict", "applied_conflict"]


@pytest.fixture
def s3_world(make_world: MakeWorld, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch) -> FaultWorld:
    """A synced catalog on S3 with two hours of changes to follow; every put of the checkpoint is witnessed."""
    monkeypatch.setattr(warm, "read_timeout", 0.4)
    world = make_world("s3")
    begin_synced(world)
    change(world)
    proxy.call("after", lambda _: world.witness.look(), method="PUT", key="checkpoint.json")
    return world


@pytest.mark.parametrize("kind", some([*PASSING, *CONFLICTS], short=4))
def test_every_conditional_put_is_spoilt_once(kind: str, s3_world: FaultWorld, proxy: S3Proxy) -> None:
    """Refused, lost, applied or not: every put comes out right, and the run ends as if nothing had been."""
    proxy.order(kind, conditional=True, when=first_of_each_put(), times=None)
    report = s3_world.sync()
    assert report.outcome == "done"
    assert proxy.served[kind] >= 4
    s3_world.witness.compare()


@pytest.mark.parametrize(("method", "kind"), some([(m, kind) for m in ("GET", "LIST") for kind in UNREADABLE], short=3))
def test_reads_and_lists_that_fail(method: str, kind: str, s3_world: FaultWorld, proxy: S3Proxy) -> None:
    """Half a body, none, or another one: the run reads again."""
    proxy.order(kind, method=method, at=[1, 3, 5])
    assert s3_world.sync().outcome == "done"
    assert proxy.served[kind]
    s3_world.witness.look()
    proxy.clear()
    s3_world.sync()
    s3_world.witness.compare()


@pytest.mark.parametrize("seed", seeds(short=1, full=30))
def test_a_storm_of_everything(seed: int, s3_world: FaultWorld, proxy: S3Proxy) -> None:
    """One request in eight is spoilt, in any way; runs end done or in one line, and the last one completes."""
    LEDGER.seeded(seed)
    choice = random.Random(seed)
    for kind in choice.sample([*PASSING, *CONFLICTS], 5):
        proxy.order(kind, conditional=True, chance=0.05, seed=seed)
    for kind in choice.sample([kind for kind in PASSING if kind not in ("stall", "late_answer")], 3):
        proxy.order(kind, chance=0.03, seed=seed + 1)
    for run in ({"job": "sync"}, {"job": "backfill", "bounds": (BORN, TODAY + 2 * HOUR)}):
        ended = s3_world.run_apart(**run, read_timeout=0.4)
        assert ended.code == 0 or [line for line in ended.error.splitlines() if line.startswith("Error: ")], ended.error
        assert "Traceback" not in ended.error
        s3_world.witness.look()
    proxy.clear()
    s3_world.sync()
    s3_world.witness.compare()


@pytest.mark.parametrize("kind", ["expired", "denied"])
@pytest.mark.parametrize("seed", seeds(short=1, full=12))
def test_credentials_that_expire_in_the_middle(kind: str, seed: int, make_world: MakeWorld, proxy: S3Proxy) -> None:
    """From some request on every one is refused: one line says so; with good credentials the next completes."""
    LEDGER.seeded(seed)
    world = make_world("s3")
    fill_base(world)
    order = proxy.order(kind, since=random.Random(f"{kind} {seed}").randint(1, 20))
    ended = world.run_apart()
    assert order.served
    assert ended.code == 1
    assert "Traceback" not in ended.error
    [line] = [line for line in ended.error.splitlines() if line.startswith("Error: ")]
    advice = {
        "expired": "the credentials have expired: renew them and run again",
        "denied": "access denied to s3:",
    }
    assert advice[kind] in line
    proxy.clear()
    world.witness.look()
    world.sync()
    world.witness.compare()


@pytest.mark.parametrize("kind", some(["slow_down", "reset", "conflict"], short=1))
def test_a_store_that_never_recovers(kind: str, make_world: MakeWorld, proxy: S3Proxy) -> None:
    """Tries end; the run fails in one line, covers nothing that is not there, and the next one completes."""
    world = make_world("s3")
    fill_base(world)
    proxy.order(kind, method="PUT", since=4)
    with pytest.raises(AhiCatalogError) as raised:
        world.sync()
    assert "\n" not in str(raised.value)
    world.witness.look()
    proxy.clear()
    world.sync()
    world.witness.compare()
