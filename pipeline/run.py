"""A run on one data store: both ends opened, what its parts share, and its report at the end."""

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pyarrow as pa

from ahi_catalog.connectors.catalog import Catalog, Checkpoint, Partition, Unit, layout, open_catalog, open_or_create
from ahi_catalog.connectors.catalog.description import refuse_other
from ahi_catalog.connectors.errors import SourceError, StoppedError
from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.source import Connection, Source, open_source
from ahi_catalog.connectors.redaction import describe
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.connectors.storage import Store, open_store
from ahi_catalog.connectors.windows import Coverage, floor_second
from ahi_catalog.pipeline.checkpointer import Checkpointer
from ahi_catalog.pipeline.heart import Heart
from ahi_catalog.pipeline.observers import InBackground, Observer, Observers, Progress, current_observers
from ahi_catalog.pipeline.planning import upper_bound
from ahi_catalog.pipeline.privacy import LoadKey, asked_policy, make_protection
from ahi_catalog.pipeline.run_report import Outcome, RunReport
from ahi_catalog.pipeline.scan_task import ScanExecutor, ScanTask, make_scan
from ahi_catalog.schemas import Protect

_log = logging.getLogger(__name__)

Clock = Callable[[], datetime]


def now() -> datetime:
    """The local clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run on one data store, under way.

    Attributes:
        settings: What to read and where to write.
        catalog: What to write to.
        source: What to read from.
        checkpointer: Commits coverage.
        executor: Where scans run.
        clock: The local clock, aware.
        scan_task: Scans a window; its rows are under the catalog's PHI policy.
        protect: Puts rows that come another way under that policy.
        report: Filled in as the run goes on, by the thread that runs it.
        observers: Watch.
        stop: Set when the run is asked to stop.
        look_ups: Requests of GetImageSet, made by several threads.
        awaited: Image sets that events tell of, and that the run has not read yet.
    """

    settings: Settings
    catalog: Catalog
    source: Source
    checkpointer: Checkpointer
    executor: ScanExecutor
    clock: Clock
    scan_task: ScanTask
    protect: Protect
    report: RunReport
    observers: Observers
    stop: threading.Event
    look_ups: list[RequestCounts] = field(default_factory=list)
    awaited: set[str] = field(default_factory=set)

    @property
    def datastore_id(self) -> str:
        """The data store."""
        return self.settings.datastore_id

    def reading_clock(self) -> Callable[[int], datetime]:
        """When so many image sets' metadata will have been read, by the service's clock, by which tiers move.

        The service is asked where it is first called, and from then on the local clock tells how much later it is.
        """
        ahead = cache(lambda: self.source.clock(self.report.counts) - self.clock())
        rate = self.settings.metadata.metadata_rate
        return lambda count: self.clock() + ahead() + timedelta(seconds=count / rate)

    def spare_requests(self) -> int:
        """How many requests the quota lets out beyond those that the scans under way make."""
        # The workers of a cluster hold the quota among them.
        return self.source.spare_requests if self.settings.dask is None else self.settings.workers

    def refuse_unknown_fields(self, unknown: Collection[str]) -> None:
        """Fail where the service sends what the declaration does not know, if the settings say so.

        Args:
            unknown: Names of fields.

        Raises:
            SourceError: There are some.
        """
        if unknown and self.settings.unknown_fields == "fail":
            raise SourceError(
                f"the service sends fields that this version does not know: {', '.join(sorted(unknown))}; "
                "upgrade ahi-catalog, or keep them in the column extra with `unknown_fields` keep"
            )

    def find_partitions(self, checkpoint: Checkpoint, windows: Coverage) -> tuple[Collection[Partition], Coverage]:
        """The partitions that have an object, by one listing, and what to read; lost ones are noted in the run report.

        A lost one that is about to be read in part is read as a whole, and taken out of the coverage for that: its
        object comes to be again, and nothing would tell that the rest is missing.

        Args:
            checkpoint: Read before.
            windows: What is about to be read.
        """
        present = self.catalog.partitions(self.datastore_id)
        lost = checkpoint.populated.minus(partition.window for partition in present)
        touched = Coverage(
            partition.window
            for window in lost
            for partition in layout.partitions(self.datastore_id, self.catalog.description.unit, window)
            if any(partition.window.overlaps(each) for each in windows)
        )
        self.checkpointer.remove(touched.windows)
        self.report.lost = lost.minus(touched)
        if self.report.difference:
            _log.warning("%s", self.report.difference)
        return present, windows.union(checkpoint.coverage.minus(checkpoint.coverage.minus(touched)))

    def confirm_deleted(self, image_set_ids: Collection[str]) -> list[str]:
        """Of image sets that a scan should have found, those that the service confirms deleted.

        When the run is stopping, those not yet asked about count as still there.
        """
        counts = RequestCounts()
        deleted: list[str] = []
        try:
            deleted.extend(found for found in image_set_ids if self.source.look_up(found, counts) is None)
        except StoppedError:
            pass  # Those left stay in the catalog; a later read of their range asks again.
        finally:
            self.look_ups.append(counts)
        return deleted

    def note_read(self, rows: pa.Table) -> None:
        """Take note of rows that were read, for events that tell of them."""
        if self.awaited:
            self.awaited.difference_update(rows["image_set_id"].to_pylist())

    def tell_progress(self, phase: str, seconds_done: int, seconds_total: int, *, since: float) -> None:
        """Tell the observers how far the run is, and since when (monotonic seconds) it does what it does."""
        self.observers.progressed(
            Progress(
                datastore_id=self.datastore_id,
                phase=phase,
                seconds_done=seconds_done,
                seconds_total=seconds_total,
                seconds=time.monotonic() - since,
                rows=self.report.rows_read,
                requests=self.report.counts.requests,
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSetup:
    """Both ends of a run, open, before it begins; made by `open_run`.

    Attributes:
        settings: Of the run.
        store: Where the catalog lies, or will.
        source: What to read from.
        counts: Of the run's requests, those before it has a report too.
        executor: Where scans run.
        stop: Set when the run is asked to stop.
        clock: The local clock, aware.
        load_key: Loads the key of pseudonyms.
    """

    settings: Settings
    store: Store
    source: Source
    counts: RequestCounts
    executor: ScanExecutor
    stop: threading.Event
    clock: Clock
    load_key: LoadKey

    def bounds(self) -> tuple[datetime, datetime]:
        """Where coverage begins, and where a run ends that begins now; asks the service."""
        return bounds(self.settings, self.source, self.counts, self.clock())

    def open_catalog(self) -> tuple[Catalog, Protect]:
        """The catalog, and what its PHI policy makes of rows.

        Raises:
            UsageError: There is none, or it was made in another way than the settings ask for.
        """
        load_key = cache(self.load_key)
        catalog = open_catalog(self.store)
        asked = asked_policy(self.settings, load_key)
        if asked is not None:
            refuse_other(asked, catalog.description.phi, self.store.url)
        return catalog, make_protection(catalog.description.phi, self.settings, load_key)

    def open_or_create_catalog(self, before_creating: Callable[[], object]) -> tuple[Catalog, Protect]:
        """The same, made if there is none.

        Args:
            before_creating: Called before it is made: the service has to answer, so that a wrong data store id
                leaves nothing behind.

        Raises:
            UsageError: It was made in another way than the settings ask for.
        """
        settings, load_key = self.settings, cache(self.load_key)
        unit = None if settings.partition is None else Unit(settings.partition)
        asked = asked_policy(settings, load_key)
        catalog = open_or_create(self.store, unit, asked, before_creating=before_creating)
        return catalog, make_protection(catalog.description.phi, settings, load_key)

    @contextmanager
    def running(self, flow: str, catalog: Catalog, protect: Protect, *, has_heartbeat: bool = True) -> Iterator[Run]:
        """Everything that a run needs; at its end, whatever way, the report is complete and kept.

        Args:
            flow: What it is: ``sync``, for example.
            catalog: What it writes to.
            protect: What the catalog's PHI policy makes of rows.
            has_heartbeat: Whether its report is kept every minute too. A watch has a heartbeat for all its hours.
        """
        settings = self.settings
        report = RunReport(
            flow=flow,
            run_id=uuid.uuid4().hex[:8],
            datastore_id=settings.datastore_id,
            started_at=self.clock(),
            counts=self.counts,
        )
        heart = Heart(catalog, report, self.clock)
        scan = make_scan(self.source, settings, protect, self.stop)
        run = Run(
            settings=settings,
            catalog=catalog,
            source=self.source,
            checkpointer=Checkpointer(catalog, settings.settle, report),
            executor=self.executor,
            clock=self.clock,
            scan_task=ScanTask(settings, catalog.description.phi, self.load_key, scan),
            protect=protect,
            report=report,
            observers=current_observers(heart, *_lineage(settings, catalog, flow)),
            stop=self.stop,
        )
        if has_heartbeat:
            heart.start()
        with _reporting(run, heart):
            yield run


def open_run(
    settings: Settings,
    executor: ScanExecutor,
    stop: threading.Event,
    *,
    clock: Clock,
    connection: Connection | None,
    load_key: LoadKey,
) -> RunSetup:
    """Open both ends of a run; nothing is asked of either yet.

    Raises:
        AhiCatalogError: One cannot be opened.
    """
    return RunSetup(
        settings=settings,
        store=open_store(settings.catalog, settings.s3, stop),
        source=open_source(settings, stop, connection),
        counts=RequestCounts(),
        executor=executor,
        stop=stop,
        clock=clock,
        load_key=load_key,
    )


def bounds(settings: Settings, source: Source, counts: RequestCounts, now: datetime) -> tuple[datetime, datetime]:
    """Where coverage begins, and where a run ends that begins now; asks the service.

    Args:
        settings: Of the run.
        source: What to read from.
        counts: Counts the requests.
        now: The local clock, aware.
    """
    if settings.start is not None:
        return floor_second(settings.start), upper_bound(now, source.clock(counts), settings.settle)
    start, service_clock = source.created_at(counts)
    return start, upper_bound(now, service_clock, settings.settle)


@contextmanager
def _reporting(run: Run, heart: Heart) -> Iterator[None]:
    """How the block ended, in the run report; a stop is no error."""
    report = run.report
    began = time.monotonic()
    try:
        yield
        report.outcome = Outcome.STOPPED if run.stop.is_set() else Outcome.DONE
    except StoppedError:
        report.outcome = Outcome.STOPPED
    except Exception:
        report.outcome = Outcome.FAILED
        raise
    finally:
        report.seconds = time.monotonic() - began
        for counts in run.look_ups:
            report.counts.add(counts)
        heart.end(report)
        run.observers.finished(report)


def _lineage(settings: Settings, catalog: Catalog, flow: str) -> list[Observer]:
    """Who sends OpenLineage's events of a run, where its own settings are there: a variable, or its file."""
    files = (Path("openlineage.yml"), Path.home() / ".openlineage" / "openlineage.yml")
    if not any(name.startswith("OPENLINEAGE_") for name in os.environ) and not any(file.is_file() for file in files):
        return []
    try:
        from openlineage.client import OpenLineageClient  # noqa: PLC0415  # an extra, and not loaded where it is off

        from ahi_catalog.pipeline.lineage import Lineage  # noqa: PLC0415

        return [InBackground(Lineage(OpenLineageClient(), catalog, flow, settings.datastore_id))]
    except ImportError:
        _log.warning("OpenLineage is configured and not installed: pip install 'ahi-catalog[lineage]'")
    except Exception as error:  # noqa: BLE001  # whatever its settings are, the run does without
        _log.warning("OpenLineage's settings cannot be used: %s", describe(error))
    return []
