"""kill -9 and SIGTERM at every step that has a name; then the promise holds, and the next run completes.

A point is chosen by its seed. To run one again: ``pytest "tests/faults/test_kills.py::<name>[<kind>-<seed>]"``.
"""

import random
import signal
from collections.abc import Callable
from functools import cache

import pytest

from tests.faults.ledger import LEDGER
from tests.faults.place import Place, read_coverage
from tests.faults.scale import IS_FULL, seeds
from tests.faults.stages import Stage, choose_ending, make_real_stage, make_stages, run_until
from tests.faults.world import FaultWorld
from tests.support.s3_proxy import S3Proxy

Stages = Callable[[str], dict[str, Stage]]


@pytest.fixture(scope="module")
def stages(
    lasting_world: Callable[[str], FaultWorld], session_proxy: S3Proxy, make_place: Callable[[str], Place]
) -> Stages:
    """The stages of each kind of place, set once."""

    def make(kind: str) -> dict[str, Stage]:
        plain, real = lasting_world(kind), lasting_world(kind)
        made = make_stages(plain, lambda: make_place(kind), session_proxy)
        if IS_FULL or kind == "folder":
            made["real"] = make_real_stage(real, lambda: make_place(kind), session_proxy)
        return made

    return cache(make)


@pytest.mark.parametrize("seed", seeds(short=8, full=130))
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_killed_run_breaks_no_promise_and_the_next_one_completes(
    kind: str, seed: int, stages: Stages, proxy: S3Proxy, make_place: Callable[[str], Place]
) -> None:
    """Right after kill -9 nothing covered is missing and nothing doubled; the next run makes it equal the service."""
    LEDGER.seeded(seed)
    choice = random.Random(f"kill {kind} {seed}")
    name, stage = choice.choice(sorted(stages(kind).items()))
    world = stage.attempt(make_place(kind))
    for _ in range(choice.choice([1, 1, 2])):
        ending = choose_ending(stage, choice, on_s3=kind == "s3")
        print(f"{name}: SIGKILL at {ending}")  # noqa: T201  # shown where the test fails
        ended = run_until(stage, world, ending, proxy, signal.SIGKILL)
        # A step may not come in every run: threads take turns.
        assert ended.code in (-signal.SIGKILL, 0), ended.error
        world.witness.look()
    stage.resume(world)
    world.witness.compare()


@pytest.mark.parametrize("seed", seeds(short=4, full=50))
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_run_that_is_asked_to_stop_ends_in_order(
    kind: str, seed: int, stages: Stages, proxy: S3Proxy, make_place: Callable[[str], Place]
) -> None:
    """SIGTERM: exit code 130, outcome "stopped", what was published is covered; the next run completes."""
    LEDGER.seeded(seed)
    choice = random.Random(f"stop {kind} {seed}")
    name, stage = choice.choice(sorted(stages(kind).items()))
    world = stage.attempt(make_place(kind))
    ending = choose_ending(stage, choice, on_s3=kind == "s3")
    print(f"{name}: SIGTERM at {ending}")  # noqa: T201  # shown where the test fails
    ended = run_until(stage, world, ending, proxy, signal.SIGTERM)
    assert ended.code in (130, 0), ended.error
    rows = world.witness.look()
    if ended.report is None:
        # Stopped before the catalog was opened: nothing was done.
        assert ended.code == 130
        assert world.place.objects("") == stage.base
        stage.resume(world)
        world.witness.compare()
        return
    assert ended.report["outcome"] == ("stopped" if ended.code else "done")
    if ended.code == 0:
        world.witness.compare()
    elif not stage.base:
        coverage = read_coverage(world.place, world.datastore_id)
        uncovered = [row for row in rows.values() if not any(a <= row["created_at"] < b for a, b in coverage)]
        assert not uncovered
        assert len(rows) == ended.report["new"]
    stage.resume(world)
    world.witness.compare()
