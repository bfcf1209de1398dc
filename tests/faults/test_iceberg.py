"""Mirrors that are killed, overtaken and refused: the Iceberg tables end equal to the catalog, their history whole.

On PyIceberg's SQL catalog and a folder, and on a real S3 server with its own REST catalog. A point is chosen by its
seed. To run one again: ``pytest "tests/faults/test_iceberg.py::<name>[<kind>-<seed>]"``.
"""

import random
import signal
from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial
from typing import Any

import pytest

from tests.faults import reading
from tests.faults.ledger import LEDGER
from tests.faults.mirrors import (
    EXPIRING,
    NOW,
    Mirrors,
    MirrorStage,
    expire_beside_a_mirror,
    make_mirror_stages,
    meet_in_a_first_mirror,
    overtake,
)
from tests.faults.place import Place
from tests.faults.scale import seeds, some
from tests.faults.stages import choose_ending, run_until
from tests.faults.world import FaultWorld
from tests.support.s3_proxy import S3Proxy

MakeWorld = Callable[..., FaultWorld]
MakePlace = Callable[[str], Place]
OpenMirrors = Callable[[str, FaultWorld], Mirrors]
Stages = Callable[[str], dict[str, MirrorStage]]


@pytest.fixture(scope="module")
def stages(lasting_world: Callable[[str], FaultWorld], open_mirrors: OpenMirrors) -> Stages:
    """The stages of each kind of place, set once."""
    return cache(lambda kind: make_mirror_stages(lasting_world(kind), partial(open_mirrors, kind)))


@pytest.fixture
def mirrored(make_world: MakeWorld, open_mirrors: OpenMirrors) -> Callable[[str], Mirrors]:
    """A catalog with its mirror, and a service whose image sets change then."""

    def make(kind: str) -> Mirrors:
        world = make_world(kind)
        reading.fill(world)
        world.sync()
        world.read_metadata()
        mirrors = open_mirrors(kind, world)
        mirrors.run()
        mirrors.compare()
        world.witness.note()
        reading.live(world)
        return mirrors

    return make


@pytest.mark.parametrize("seed", seeds(short=2, full=100))
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_killed_mirror_leaves_the_tables_whole(
    kind: str, seed: int, stages: Stages, proxy: S3Proxy, make_place: MakePlace
) -> None:
    """Readers see all of the old rows or all of the new ones; the next mirror completes, and a third has no work.

    An expiry that was killed is completed too: files that no snapshot names are gone, those that one names are there.
    """
    LEDGER.seeded(seed)
    choice = random.Random(f"iceberg {kind} {seed}")
    name, stage = choice.choice(sorted(stages(kind).items()))
    stage.rehearse(make_place(kind), proxy)
    world = stage.attempt(make_place(kind))
    mirrors = stage.mirrors[world.place.url]
    before = mirrors.look()
    for _ in range(choice.choice([1, 1, 2])):
        ending = choose_ending(stage, choice, on_s3=kind == "s3")
        print(f"{name}: SIGKILL at {ending}")  # noqa: T201  # shown where the test fails
        ended = run_until(stage, world, ending, proxy, signal.SIGKILL)
        # A step may not come in every run: threads take turns.
        assert ended.code in (-signal.SIGKILL, 0), ended.error
        for table, rows in mirrors.look().items():
            assert rows in (before[table], mirrors.wanted(table))
    stage.resume(world)
    stage.compare(world)
    if name == "expire":
        # Copies of the runs that were killed are a day old by then.
        mirrors.run(keep=timedelta(), now=NOW + timedelta(days=4))
        named, lying = mirrors.data_files()
        assert named == lying
    assert not any(each["snapshot_id"] for each in (mirrors.run().report or {}).values())


@pytest.mark.parametrize("kind", some(["folder", "s3"], short=1))
def test_two_first_mirrors(kind: str, make_world: MakeWorld, open_mirrors: OpenMirrors) -> None:
    """One is held before its commit while the other commits: no row is doubled."""
    world = make_world(kind)
    reading.fill(world)
    world.sync()
    meet_in_a_first_mirror(open_mirrors(kind, world))


@pytest.mark.parametrize("kind", some(["folder", "s3"], short=1))
def test_an_expiry_beside_a_mirror(kind: str, mirrored: Callable[[str], Mirrors]) -> None:
    """What a run under way has copied and not committed is no orphan."""
    expire_beside_a_mirror(mirrored(kind))


@pytest.mark.parametrize(
    ("kind", "what"),
    some([(k, w) for k in ("folder", "s3") for w in ("mirror", "expire", "sync", "publish")], short=2),
)
def test_a_mirror_that_another_run_overtakes(kind: str, what: str, mirrored: Callable[[str], Mirrors]) -> None:
    """Held before its commit, with all copies made, while the catalog changes and others mirror it and expire."""
    overtake(mirrored(kind), what)


@pytest.mark.parametrize("seed", seeds(short=1, full=12))
@pytest.mark.parametrize("kind", some(["folder", "s3"], short=1))
def test_mirrors_side_by_side(kind: str, seed: int, mirrored: Callable[[str], Mirrors]) -> None:
    """Mirrors, expiries and syncs that mirror at their end, some killed; every snapshot is whole at every look."""
    LEDGER.seeded(seed)
    choice = random.Random(f"{kind} {seed}")
    mirrors = mirrored(kind)
    world = mirrors.world
    runs: list[dict[str, Any]] = [{"job": "iceberg", "now": NOW}, {"job": "iceberg", **EXPIRING}, {"job": "sync"}]
    specs = [world.spec(**run) for run in [*runs, *choice.choices([*runs, {"job": "metadata"}], k=2)]]
    children = [world.start(spec) for spec in specs]
    doomed = [child for child in children if choice.random() < 0.3]
    LEDGER.injected("mirrors side by side")
    while any(child.is_running for child in children):
        mirrors.look()
        world.update(f"a{choice.randint(0, 30):05d}", DICOMTags={"DICOMStudyId": "again"})
        if doomed:
            doomed.pop().send(signal.SIGKILL)
            LEDGER.injected("SIGKILL among others")
    for spec, child in zip(specs, children, strict=True):
        ended = world.finish(spec, child)
        assert ended.code in (0, -signal.SIGKILL), ended.error
    mirrors.look()
    world.service.advance(timedelta(minutes=21))
    world.sync()
    world.read_metadata()
    mirrors.run()
    mirrors.compare()


@pytest.mark.parametrize("kind", some(["lost_answer", "applied_internal", "internal", "reset", "slow_down"], short=1))
def test_a_commit_whose_answer_is_lost_or_refused(
    kind: str, mirrored: Callable[[str], Mirrors], proxy: S3Proxy
) -> None:
    """Applied or not, the run looks again: it ends with the tables equal to the catalog, and nothing is doubled."""
    mirrors = mirrored("s3")
    mirrors.world.sync()
    proxy.order(kind, method="POST", at=[1])
    ended = mirrors.world.run_apart("iceberg", now=NOW)
    assert proxy.served[kind]
    assert "Traceback" not in ended.error
    proxy.clear()
    mirrors.look()
    if ended.code:
        mirrors.run()
    mirrors.compare()
