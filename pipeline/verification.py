"""What a verification does, from settings to report, without Prefect."""

import threading
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final

from ahi_catalog.connectors.catalog import Catalog, Checkpoint, Partition, layout
from ahi_catalog.connectors.catalog.inspection import Inspection, inspect, mend
from ahi_catalog.connectors.catalog.verification import Finding, Verification
from ahi_catalog.connectors.errors import DamagedError, StoppedError, UsageError
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.healthimaging.source import Connection
from ahi_catalog.connectors.redaction import sealed
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.connectors.windows import Coverage, Window, floor_second
from ahi_catalog.pipeline import engine, jobs
from ahi_catalog.pipeline.planning import Part, Scope, plan_verify
from ahi_catalog.pipeline.run import Run
from ahi_catalog.pipeline.run_report import RunReport
from ahi_catalog.pipeline.runners import Runner
from ahi_catalog.pipeline.verifier import Verifier

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
        is_repairing: Whether to mend what is found.
        is_restart: Whether to begin anew where an earlier verification was interrupted.
    """

    start: datetime | None = None
    end: datetime | None = None
    part: str | None = None
    is_repairing: bool = False
    is_restart: bool = False

    def scope(self, today: datetime) -> Scope:
        """The partitions that are asked for.

        Raises:
            UsageError: The range or the part is none.
        """
        return Scope(start=self.start, end=self.end, part=Part.parse(self.part, today) if self.part else None)


@sealed
def verify(
    settings: Settings,
    request: Request,
    runner: Runner,
    stop: threading.Event,
    *,
    clock: jobs.Clock = jobs.now,
    connection: Connection | None = None,
) -> RunReport:
    """Read what is covered again, compare it with the catalog, and mend the difference if asked to.

    Args:
        settings: What to read, and where it was written.
        request: What shall be verified.
        runner: Where scans run.
        stop: Set it to end the run early; the next one goes on from there.
        clock: The local clock, aware.
        connection: Shared with runs on other data stores; None: one of its own.

    Returns:
        The report, with the verification: findings by partition, and how many of them are left.

    Raises:
        UsageError: There is nothing to verify.
        AhiCatalogError: The run failed; what was verified by then is kept.
    """
    scope = request.scope(clock())
    ends = jobs.open_ends(settings, runner, stop, clock, connection)
    catalog, protect = ends.open_catalog(is_creating=False)
    checkpoint, wrong = _find_checkpoint(catalog, settings.datastore_id)
    if checkpoint is None:
        start, upper = jobs.bounds(settings, ends.source, ends.tally, clock())
        everything = Coverage([Window(start, upper)] if start < upper else ())
        checkpoint = Checkpoint(datastore_id=settings.datastore_id, coverage=everything, followed_to=upper)
    with ends.running("verify", catalog, protect) as run:
        if wrong and request.is_repairing:
            # Made anew, nothing is covered before it has been read again.
            run.catalog.renew_checkpoint(replace(checkpoint, coverage=Coverage()))
        run.report.watermark_before = run.report.watermark_after = None if wrong else checkpoint.coverage.watermark
        run.report.followed_to = checkpoint.followed_to
        verifier = Verifier(run, _begin(run, request, scope, checkpoint, clock()), checkpoint.followed_to)
        try:
            if not verifier.verification.is_inspected:
                _inspect(run, verifier, scope, checkpoint, wrong)
            engine.read(run, Field.CREATED_AT, verifier.verification.remaining, verifier)
            if not verifier.verification.remaining:
                verifier.keep(replace(verifier.verification, finished_at=floor_second(clock())))
        finally:
            run.report.verification = verifier.verification
    return run.report


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


def _begin(run: Run, request: Request, scope: Scope, checkpoint: Checkpoint, now: datetime) -> Verification:
    """The verification that was interrupted, if the same was asked for then; or a new one."""
    before = None if request.is_restart else run.catalog.verification(run.datastore_id)
    if (
        before is not None
        and before.finished_at is None
        and (before.asked, before.is_repairing) == (str(scope), request.is_repairing)
    ):
        begun = replace(before, run_id=run.report.run_id)
    else:
        partitions_of = partial(layout.partitions, run.datastore_id, run.catalog.description.unit)
        begun = Verification(
            run_id=run.report.run_id,
            asked=str(scope),
            started_at=floor_second(now),
            is_repairing=request.is_repairing,
            windows=plan_verify(checkpoint.coverage, partitions_of, scope),
        )
    run.catalog.keep_verification(run.datastore_id, begun, is_new=True)
    return begun


def _inspect(run: Run, verifier: Verifier, scope: Scope, checkpoint: Checkpoint, wrong: list[Found]) -> None:
    """Look at the objects themselves; mend what is wrong with them, if asked to."""
    objects = run.catalog.objects(run.datastore_id)
    inspected = _inspect_objects(run, [partition for partition in objects.partitions if scope.has(partition)])
    lost = [
        partition
        for window in checkpoint.populated.minus(partition.window for partition in objects.partitions)
        for partition in layout.partitions(run.datastore_id, run.catalog.description.unit, window)
        if scope.has(partition)
    ]
    if verifier.verification.is_repairing:
        unreadable = [partition for partition, found in inspected.items() if found.is_unreadable]
        run.uncover([partition.window for partition in (*unreadable, *lost)])
        for partition in inspected:
            mend(run.catalog.store, partition)
    prefix = layout.table_prefix(run.datastore_id)
    verifier.keep(
        replace(verifier.verification, is_inspected=True).noting(
            [
                *wrong,
                *((partition.value, _findings(found)) for partition, found in inspected.items()),
                *((partition.value, Counter({Finding.LOST: 1})) for partition in lost),
                *((key.removeprefix(prefix), Counter({Finding.FOREIGN: 1})) for key in objects.unexpected),
            ]
        )
    )


def _inspect_objects(run: Run, partitions: Collection[Partition]) -> dict[Partition, Inspection]:
    """What is wrong, by partition; those that are right are left out."""

    def look(partition: Partition) -> tuple[Partition, Inspection]:
        if run.is_stopping():
            raise StoppedError("stopped while looking at the data objects")
        return partition, inspect(run.catalog.store, partition)

    with ThreadPoolExecutor(_INSPECTORS, thread_name_prefix="inspect") as inspectors:
        return {partition: found for partition, found in inspectors.map(look, partitions) if found != Inspection()}


def _findings(found: Inspection) -> Counter[Finding]:
    counts = {Finding.UNREADABLE: int(found.is_unreadable), Finding.DOUBLED: found.doubled}
    return Counter({kind: count for kind, count in counts.items() if count})
