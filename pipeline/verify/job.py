"""What a verification does, from settings to report, without Prefect."""

import threading
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

import pyarrow.compute as pc

from ahi_catalog.connectors.catalog import Catalog, Checkpoint, Partition, layout
from ahi_catalog.connectors.catalog.dataset import data_keys
from ahi_catalog.connectors.catalog.publishing import read_object, renew_partition
from ahi_catalog.connectors.catalog.verification import Finding, Verification
from ahi_catalog.connectors.errors import DamagedError, StateError, StoppedError, UsageError
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.healthimaging.source import Connection, connect
from ahi_catalog.connectors.phi_key import load_phi_key
from ahi_catalog.connectors.redaction import redact_errors
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.connectors.windows import NOWHERE, Coverage, Window, floor_second
from ahi_catalog.pipeline import engine
from ahi_catalog.pipeline.metadata import reading_task
from ahi_catalog.pipeline.notifying import notified
from ahi_catalog.pipeline.planning import Part, Scope, plan_verify
from ahi_catalog.pipeline.privacy import LoadKey
from ahi_catalog.pipeline.run import Clock, Run, now, open_run
from ahi_catalog.pipeline.run_report import RunReport
from ahi_catalog.pipeline.scan_task import ScanExecutor
from ahi_catalog.pipeline.verify.inspection import Inspection, inspect, repair_object
from ahi_catalog.pipeline.verify.metadata import check_metadata
from ahi_catalog.pipeline.verify.sink import Verifier
from ahi_catalog.schemas import IMAGE_SETS, REMOVALS, Table
from ahi_catalog.schemas.series import DERIVED_TABLES

_INSPECTORS: Final = 4
CHECKPOINT: Final = "checkpoint"
"""The name under which what is wrong with the checkpoint stands among the findings."""

Found = tuple[str, Counter[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What shall be verified.

    Attributes:
        start, end: A range of createdAt, aware; whole partitions of it are verified. None: all that is covered.
        part: ``3/30``, ``today/30``, or None for all partitions.
        is_repairing: Whether to repair what is found.
        is_restart: Whether to begin anew where an earlier verification was interrupted.
        share: Of each partition's image sets, that whose metadata is read again, above 0 and at most 1; None: none.
    """

    start: datetime | None = None
    end: datetime | None = None
    part: str | None = None
    is_repairing: bool = False
    is_restart: bool = False
    share: float | None = None

    def asked(self, scope: Scope) -> str:
        """What is asked for, as text."""
        return f"{scope} metadata {self.share:g}" if self.share else str(scope)

    def scope(self, today: datetime) -> Scope:
        """The partitions that are asked for.

        Raises:
            UsageError: The range or the part is none.
        """
        return Scope(start=self.start, end=self.end, part=Part.parse(self.part, today) if self.part else None)


@notified("verify")
@redact_errors
def verify(
    settings: Settings,
    request: Request,
    executor: ScanExecutor,
    stop: threading.Event,
    *,
    clock: Clock = now,
    connection: Connection | None = None,
    load_key: LoadKey = load_phi_key,
) -> RunReport:
    """Read what is covered again, compare it with the catalog, and repair the difference if asked to.

    Args:
        settings: What to read, and where it was written.
        request: What shall be verified.
        executor: Where scans run.
        stop: Set it to end the run early; the next one goes on from there.
        clock: The local clock, aware.
        connection: Shared with runs on other data stores; None: one of its own.
        load_key: Loads the key of pseudonyms.

    Returns:
        The report, with the verification: findings by partition, and how many of them are unrepaired.

    Raises:
        UsageError: There is nothing to verify.
        AhiCatalogError: The run failed; what was verified by then is kept.
    """
    scope = request.scope(clock())
    setup = open_run(settings, executor, stop, clock=clock, connection=connection, load_key=load_key)
    catalog, protect = setup.open_catalog()
    checkpoint, wrong = _find_checkpoint(catalog, settings.datastore_id)
    if checkpoint is None:
        start, upper = setup.bounds()
        everything = Coverage([Window(start, upper)] if start < upper else ())
        checkpoint = Checkpoint(datastore_id=settings.datastore_id, coverage=everything, followed_to=upper)
    with setup.running("verify", catalog, protect) as run:
        begun = _begin(run, request, scope, checkpoint, clock())
        if wrong and request.is_repairing:
            # Made anew, nothing is covered before it has been read again. What is to be read stands in the
            # verification by now, for a run that ends here.
            run.catalog.renew_checkpoint(replace(checkpoint, coverage=Coverage()))
        run.report.watermark_before = run.report.watermark_after = None if wrong else checkpoint.watermark
        run.report.followed_to = checkpoint.followed_to
        verifier = Verifier(run, begun, checkpoint.followed_to)
        try:
            if not verifier.verification.is_inspected:
                _inspect(run, verifier, scope, checkpoint, wrong)
            _read(run, verifier)
            if not verifier.verification.remaining:
                if verifier.verification.sampled is None:
                    found = _check_derived(run, scope, verifier.verification)
                    verifier.keep(replace(verifier.verification, sampled=NOWHERE).noting(found))
                if request.share:
                    task = reading_task(run, load_key, connection or connect(settings))
                    has = partial(_is_known, scope, verifier.verification)
                    check_metadata(run, verifier, task, request.share, has)
                verifier.keep(replace(verifier.verification, finished_at=floor_second(clock())))
        finally:
            run.report.verification = verifier.verification
    return run.report


def _read(run: Run, verifier: Verifier) -> None:
    """Reads what remains to be verified.

    Where a repair meets an object that was damaged after the inspection, it replaces the object, and reads its range
    again from the start: the reading has ended by then, so that nothing of the range is counted as covered meanwhile.
    """
    replaced: set[Partition] = set()
    while True:
        try:
            engine.read(run, Field.CREATED_AT, verifier.verification.remaining, verifier)
        except DamagedError:
            damaged = verifier.damaged - replaced
            if not damaged:
                raise
        else:
            return
        windows = [partition.window for partition in damaged]
        verifier.keep(verifier.verification.reading_again(windows))
        run.checkpointer.remove(windows)
        for partition in damaged:
            repair_object(run.catalog.store, IMAGE_SETS, partition)
        unreadable = Counter({Finding.UNREADABLE: 1})
        verifier.keep(verifier.verification.noting((partition.value, unreadable) for partition in damaged))
        replaced |= damaged


def _find_checkpoint(catalog: Catalog, datastore_id: str) -> tuple[Checkpoint | None, list[Found]]:
    """The checkpoint, or None and what is wrong with it.

    Raises:
        UsageError: There is none, and no data either.
    """
    try:
        found = catalog.checkpoint(datastore_id)
    except DamagedError:
        return None, [(CHECKPOINT, Counter({Finding.UNREADABLE: 1}))]
    if found is not None:
        return found, []
    if not catalog.partitions(datastore_id):
        raise UsageError("there is nothing to verify: nothing of this data store was ever synced into this catalog")
    return None, [(CHECKPOINT, Counter({Finding.LOST: 1}))]


def _last(run: Run, request: Request) -> Verification | None:
    try:
        return run.catalog.verification(run.datastore_id)
    except StateError:
        if not request.is_restart:
            raise
        return None  # A restart needs nothing of it, whatever it is.


def _begin(run: Run, request: Request, scope: Scope, checkpoint: Checkpoint, now: datetime) -> Verification:
    """The verification that was interrupted, if the same was asked for then; or a new one.

    What an interrupted repair had still to read may be covered no longer, so the new one plans it too. A repair reads
    the same sample of metadata as the verification that left something to repair.
    """
    last, asked = _last(run, request), request.asked(scope)
    before = last if last is not None and last.finished_at is None else None
    is_the_same = before is not None and (before.asked, before.is_repairing) == (asked, request.is_repairing)
    if before is not None and is_the_same and not request.is_restart:
        begun = replace(before, run_id=run.report.run_id)
    else:
        left = before.remaining if before is not None and before.is_repairing else Coverage()
        partitions_of = partial(layout.partitions, run.datastore_id, run.catalog.description.unit)
        seed = last.seed if last is not None and last.unrepaired and request.is_repairing else ""
        begun = Verification(
            run_id=run.report.run_id,
            asked=asked,
            started_at=floor_second(now),
            is_repairing=request.is_repairing,
            windows=plan_verify(checkpoint.coverage.union(left), partitions_of, scope),
            seed=(seed or run.report.run_id) if request.share else "",
        )
    run.catalog.keep_verification(run.datastore_id, begun, is_new=True)
    return begun


def _inspect(run: Run, verifier: Verifier, scope: Scope, checkpoint: Checkpoint, wrong: list[Found]) -> None:
    """Look at the objects themselves; repair what is wrong with them, if asked to."""
    objects = run.catalog.objects(run.datastore_id)
    inspected = _inspect_objects(run, IMAGE_SETS, [each for each in objects.partitions if scope.has(each)])
    parsed = (layout.parse_partition(REMOVALS, key) for key in data_keys(run.catalog, REMOVALS, run.datastore_id))
    removals = _inspect_objects(run, REMOVALS, [each for each in parsed if each and scope.has(each)])
    lost = [
        partition
        for window in checkpoint.populated.minus(partition.window for partition in objects.partitions)
        for partition in layout.partitions(run.datastore_id, run.catalog.description.unit, window)
        if scope.has(partition)
    ]
    if verifier.verification.is_repairing:
        unreadable = [partition for partition, found in inspected.items() if found.is_unreadable]
        run.checkpointer.remove([partition.window for partition in (*unreadable, *lost)])
        for partition, found in inspected.items():
            repair_object(run.catalog.store, IMAGE_SETS, partition)
            run.report.removed += found.duplicate
            run.report.partitions_written += 1
        for partition in removals:
            repair_object(run.catalog.store, REMOVALS, partition)
    prefix = layout.table_prefix(IMAGE_SETS, run.datastore_id)
    verifier.keep(
        replace(verifier.verification, is_inspected=True).noting(
            [
                *wrong,
                *((partition.value, _findings(found)) for partition, found in inspected.items()),
                *((f"{REMOVALS.folder}{each.value}", _findings(found)) for each, found in removals.items()),
                *((partition.value, Counter({Finding.LOST: 1})) for partition in lost),
                *((key.removeprefix(prefix), Counter({Finding.UNEXPECTED: 1})) for key in objects.unexpected),
            ]
        )
    )


def _inspect_objects(run: Run, table: Table, partitions: Collection[Partition]) -> dict[Partition, Inspection]:
    """What is wrong, by partition; those that are right are left out."""

    def look(partition: Partition) -> tuple[Partition, Inspection]:
        if run.stop.is_set():
            raise StoppedError("stopped while looking at the data objects")
        return partition, inspect(run.catalog.store, table, partition)

    with ThreadPoolExecutor(_INSPECTORS, thread_name_prefix="inspect") as inspectors:
        return {partition: found for partition, found in inspectors.map(look, partitions) if found != Inspection()}


def _check_derived(run: Run, scope: Scope, verification: Verification) -> list[Found]:
    """Compare `series` and `instances` with `image_sets`, without a request; repair what differs, if asked to.

    Rows of an earlier version are none of it: the next reading of metadata brings the newer one. Where `image_sets`
    itself cannot be read, there is nothing to compare with.
    """
    found: list[Found] = []
    for table in run.catalog.tables():
        if table is IMAGE_SETS:
            continue
        for partition in run.catalog.partitions(run.datastore_id, table):
            if run.stop.is_set():
                raise StoppedError(f"stopped while comparing {table.name} with image_sets")
            if _is_known(scope, verification, partition):
                counts = _check_derived_partition(run, table, partition, is_repairing=verification.is_repairing)
                found.append((f"{table.name} {partition.value}", counts))
    return found


def _is_known(scope: Scope, verification: Verification, partition: Partition) -> bool:
    """Whether a partition is asked for, and can be compared: each of its objects was readable, or is by now."""
    places = (partition.value, *(f"{table.name} {partition.value}" for table in DERIVED_TABLES))
    wrong = sum((verification.findings.get(place, Counter[Finding]()) for place in places), Counter[Finding]())
    is_readable = verification.is_repairing or not (wrong[Finding.UNREADABLE] or wrong[Finding.LOST])
    return scope.has(partition) and is_readable


def _check_derived_partition(run: Run, table: Table, partition: Partition, *, is_repairing: bool) -> Counter[Finding]:
    store = run.catalog.store
    inspected = inspect(store, table, partition)
    counts = _findings(inspected)
    if counts and is_repairing:
        # What an unreadable object had is read again by the next reading of metadata.
        repair_object(store, table, partition)
        run.report.removed += inspected.duplicate
        run.report.partitions_written += 1
    if not inspected.is_unreadable:
        # `image_sets` is read last, so that whatever was read for it meanwhile is in it.
        there, known = (
            read_object(each, key, store.get(key), ["image_set_id"])["image_set_id"]
            for each, key in ((each, partition.key(each)) for each in (table, IMAGE_SETS))
        )
        counts[Finding.DELETED] += int(pc.sum(pc.invert(pc.is_in(there, known)), min_count=0).as_py())
        if counts[Finding.DELETED] and is_repairing:
            run.report.count_published(renew_partition(store, table, partition, table.schema.empty_table()))
    return +counts


def _findings(found: Inspection) -> Counter[Finding]:
    counts = {Finding.UNREADABLE: int(found.is_unreadable), Finding.DUPLICATE: found.duplicate}
    return Counter({kind: count for kind, count in counts.items() if count})
