"""A model-based test: whatever happens to a data store, and however runs end, the promise holds after every step."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ahi_catalog.connectors.healthimaging import source
from ahi_catalog.pipeline.run_report import RunReport
from tests.faults import warm
from tests.faults.ledger import LEDGER
from tests.faults.scale import IS_FULL, SHRINKS, seeds
from tests.faults.switch import CrashError, Switch, SwitchedStore, running_on
from tests.faults.world import BORN, TODAY, FaultWorld
from tests.support.world import summary

SETTLE = timedelta(minutes=10)
HABITS: list[dict[str, Any]] = [
    {},
    {"visibility_lag": 600.0},
    {"offset_tokens": True, "between_inclusive": False},
    {"ignore_sort": True},
    {"older_api": True, "deleted_is_gone": True},
]
SWITCH = Switch()


def _rewrite(change: Callable[[pa.Table], pa.Table]) -> Callable[[SwitchedStore, str], None]:
    def damage(store: SwitchedStore, key: str) -> None:
        written = io.BytesIO()
        pq.write_table(change(pq.read_table(io.BytesIO(store.objects(key)[key]))), written)
        store.fill({key: written.getvalue()})

    return damage


DAMAGES: dict[str, Callable[[SwitchedStore, str], None]] = {
    "rows missing": _rewrite(lambda rows: rows.slice(len(rows) // 2)),
    "rows doubled": _rewrite(lambda rows: pa.concat_tables([rows, rows.slice(0, 3)])),
    "an object cut": lambda store, key: store.fill({key: store.objects(key)[key][:-7]}),
    "an object lost": lambda store, key: store.remove(key),
    "checkpoint cut": lambda store, key: store.fill({key: store.objects(key)[key][:-7]}),
    "checkpoint lost": lambda store, key: store.remove(key),
}


class Catalogs(RuleBasedStateMachine):
    """A data store that lives, and runs that read it, end early, crash, and overlap."""

    worlds: ClassVar[list[FaultWorld]] = []
    count: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.made = 0

    @initialize(habit=st.integers(0, len(HABITS) - 1), partition=st.sampled_from(["day", "month"]))
    def begin(self, habit: int, partition: str) -> None:
        """A new data store and a new catalog."""
        Catalogs.count += 1
        self.store = SwitchedStore(SWITCH)
        service = self.worlds[habit].service
        service.clock.freeze(TODAY)
        datastore_id = service.create_datastore(name=f"model-{Catalogs.count}", created_at=BORN)
        self.world = self.worlds[habit].moved(self.store, datastore_id)
        self.options: dict[str, Any] = {"partition": partition, "concurrency": 2}

    # What happens to the data store.

    @rule(count=st.integers(1, 70), age=st.sampled_from([0, 0, 1, 300, 540]), step=st.sampled_from([0, 0.000001, 0.5]))
    def insert(self, count: int, age: int, step: float) -> None:
        """Image sets appear, at once or up to the settle time after they were created."""
        if "visibility_lag" in HABITS[self.worlds_habit()]:
            age = 0
        start = self.world.service.now() - timedelta(seconds=age)
        names = [f"m{self.made + number:06d}" for number in range(count)]
        self.made += count
        self.world.insert(*(summary(name, start - timedelta(seconds=step * n)) for n, name in enumerate(names)))
        self.names += names

    @precondition(lambda self: self.names)
    @rule(data=st.data(), count=st.integers(1, 5))
    def update(self, data: st.DataObject, count: int) -> None:
        """Image sets get a new version."""
        for _ in range(count):
            self.world.update(data.draw(st.sampled_from(self.names)), DICOMTags={"DICOMStudyId": f"{count}"})

    @precondition(lambda self: self.names)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """An image set goes."""
        name = data.draw(st.sampled_from(self.names))
        self.names.remove(name)
        self.world.delete(name)

    @rule(seconds=st.sampled_from([1, 59, 600, 601, 3600, 90_000, 300_000]))
    def advance(self, seconds: int) -> None:
        """Time passes."""
        self.world.service.advance(timedelta(seconds=seconds))

    # Runs.

    @rule(budget=st.integers(1, 3))
    def sync(self, budget: int) -> None:
        """A sync to its end."""
        self.run(lambda: self.world.sync(**self.options, page_budget=budget, buffer_bytes=budget * 8_000))

    @rule(start=st.integers(-48, 100), hours=st.integers(1, 200))
    def backfill(self, start: int, hours: int) -> None:
        """A backfill of some range, as far as it is not too young."""
        first = TODAY + timedelta(hours=start)
        if first < self.world.service.now() - SETTLE:
            self.run(lambda: self.world.backfill(first, first + timedelta(hours=hours), **self.options))

    @rule(what=st.sampled_from(["request", "put before", "put after"]), number=st.integers(1, 12), whole=st.booleans())
    def crash(self, what: str, number: int, *, whole: bool) -> None:
        """A run is gone from one step to the next."""
        end = self.world.service.now()

        def job() -> object:
            if whole:
                return self.world.backfill(BORN, end, **self.options)
            return self.world.sync(**self.options, page_budget=1, buffer_bytes=12_000)

        with SWITCH.crashing_at(what, number):
            try:
                self.run(job)
            except CrashError:
                LEDGER.injected(f"crash at a {what}")

    @rule(number=st.integers(1, 8))
    def stop(self, number: int) -> None:
        """A run is asked to stop at a request."""
        stop = threading.Event()
        with self.world.on_request(lambda _, request: stop.set() if request == number else None):
            self.run(lambda: self.world.sync(stop, **self.options, page_budget=1))
        LEDGER.injected("stop at a request", stop.is_set())

    @rule(number=st.integers(1, 6), data=st.data(), whole=st.booleans())
    def overlap(self, number: int, data: st.DataObject, *, whole: bool) -> None:
        """Before a put of one run, rows change, and another run reads and writes all of it."""
        changed = data.draw(st.sampled_from(self.names)) if self.names else None

        def meanwhile() -> None:
            if changed:
                self.world.update(changed, DICOMTags={"DICOMStudyId": "meanwhile"})
            self.world.sync(**self.options)
            if whole:
                self.world.backfill(BORN, self.world.service.now(), **self.options)
            LEDGER.injected("a run inside another")

        with SWITCH.calling(meanwhile, number):
            self.run(lambda: self.world.sync(**self.options, page_budget=1, buffer_bytes=12_000))

    @precondition(lambda self: self.has_catalog)
    @rule(data=st.data(), kind=st.sampled_from([*DAMAGES]), crash_at=st.none() | st.integers(1, 8))
    def damage_and_repair(self, data: st.DataObject, kind: str, crash_at: int | None) -> None:
        """An object or the checkpoint is damaged; a repair, also one that crashes and begins again, mends it."""
        keys = [*self.store.objects("image_sets/")]
        if kind.startswith("checkpoint"):
            # Without data, a lost checkpoint is that of a catalog that was never synced.
            state = f"_state/datastore_id={self.world.datastore_id}/checkpoint"
            keys = [*self.store.objects(state)] if keys else []
        if not keys:
            return
        DAMAGES[kind](self.store, data.draw(st.sampled_from(sorted(keys))))
        LEDGER.injected(f"damage: {kind}")
        options = {**self.options, "is_repairing": True, "page_budget": 2, "buffer_bytes": 16_000}
        if crash_at is not None:
            with SWITCH.crashing_at("put before", crash_at), suppress(CrashError):
                self.run(lambda: self.world.verify(**options))
        self.run(lambda: self.world.verify(**options))
        self.finds_nothing()

    def finds_nothing(self) -> None:
        """A verify that only looks finds the catalog in order."""
        reports: list[RunReport] = []
        self.run(lambda: reports.append(self.world.verify(**self.options)))
        [report] = reports
        assert report.verification is not None
        assert report.verification.findings == {}

    @property
    def has_catalog(self) -> bool:
        """Whether a sync has got as far as a checkpoint."""
        return hasattr(self, "store") and bool(
            self.store.objects(f"_state/datastore_id={self.world.datastore_id}/checkpoint")
        )

    @rule(with_verify=st.booleans())
    def settle_and_compare(self, *, with_verify: bool) -> None:
        """Quiet, then a sync: every image set has its row as it is now; deleted ones go by a backfill or a verify."""
        self.world.service.advance(timedelta(minutes=21))
        self.run(lambda: self.world.sync(**self.options))
        self.world.witness.compare(but_deleted=True)
        if with_verify:
            self.run(lambda: self.world.verify(**self.options, is_repairing=True))
        else:
            self.run(lambda: self.world.backfill(BORN, self.world.service.now(), **self.options))
        self.world.witness.compare()
        self.finds_nothing()

    @invariant()
    def the_promise_holds(self) -> None:
        """Each image set has at most one row, what is covered is there, and no row goes back."""
        if hasattr(self, "world"):
            self.world.witness.look()

    def run(self, job: Callable[[], object]) -> None:
        """Run on the store in memory."""
        with running_on(self.store):
            job()

    def worlds_habit(self) -> int:
        """Which of the habits the service has."""
        return next(n for n, world in enumerate(self.worlds) if world.service is self.world.service)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.settle_and_compare(with_verify=True)


@pytest.fixture
def worlds(make_world: Callable[..., FaultWorld], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A running service of every habit; requests pass by the switch."""
    made: Any = warm.source_client
    switched: set[int] = set()

    def make(**settings: Any) -> Any:
        client = made(**settings)
        if id(client) not in switched:
            switched.add(id(client))
            client.meta.events.register("before-call.medical-imaging", lambda **_: SWITCH.pass_by("request") and None)
        return client

    monkeypatch.setattr(source, "make_client", make)
    Catalogs.worlds = [make_world(**options) for options in HABITS]
    yield
    Catalogs.worlds = []


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", seeds(short=1, full=4))
@pytest.mark.usefixtures("worlds")
def test_the_promise_holds_after_every_step(number: int) -> None:
    """Inserts, updates, deletions, time, syncs, backfills, crashes, stops and overlaps, in any order."""
    LEDGER.seeded(number)
    run_state_machine_as_test(
        seed(number)(Catalogs),
        settings=settings(
            max_examples=60 if IS_FULL else 16,
            stateful_step_count=25 if IS_FULL else 15,
            deadline=None,
            database=None,
            # Shrinking takes minutes here; the seed brings the failure back.
            phases=[Phase.generate, Phase.shrink] if SHRINKS else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
