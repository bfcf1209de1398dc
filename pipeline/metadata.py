"""Metadata: what `series` and `instances` lack, read newest first, and published partition by partition.

What is lacking is the difference of two columns of two tables, so a run needs no state of its own: it may end anywhere,
run beside syncs and verifies, and beside itself; the next one reads what is lacking then.

The tier guard: by default an image set is read only where it is in the frequent tier now. The catalog's tier is as old
as the last sync that saw it, and the service moves what nobody accessed for 30 days into the archive, so the last
access has to be younger.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache, partial, reduce
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.connectors.catalog import Catalog, Partition, Published
from ahi_catalog.connectors.catalog.merge import origins_of
from ahi_catalog.connectors.catalog.publishing import read_columns, renew_partition
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.healthimaging.metadata import Left, MetadataRequest, MetadataResult
from ahi_catalog.connectors.healthimaging.source import Connection, connect, open_metadata_source
from ahi_catalog.connectors.phi_key import load_phi_key
from ahi_catalog.connectors.redaction import redact_errors
from ahi_catalog.connectors.settings import MetadataOptions, Quota, Settings
from ahi_catalog.pipeline.background import BackgroundJob
from ahi_catalog.pipeline.executors import open_threads
from ahi_catalog.pipeline.privacy import LoadKey, make_protection
from ahi_catalog.pipeline.results import Results
from ahi_catalog.pipeline.run import Clock, Run, RunSetup, now, open_run
from ahi_catalog.pipeline.run_report import MetadataCounts, RunReport
from ahi_catalog.pipeline.scan_task import ScanExecutor, ScanTask, make_reading
from ahi_catalog.schemas import IMAGE_SETS, INSTANCES, SERIES, Table
from ahi_catalog.schemas.decoding.metadata import Origin
from ahi_catalog.schemas.keywords import value_representations
from ahi_catalog.schemas.views import FREQUENT, GIGABYTE, LEAST_BYTES, StoragePrices

UNTOUCHED: Final = timedelta(days=30)
"""Without access, after which the service moves an image set into the archive
(https://docs.aws.amazon.com/healthimaging/latest/devguide/storage-tiers.html)."""
_CHUNK: Final = 25
"""Image sets of a task: half a second of the default quota, which is what a dead worker loses."""
_PUBLISH_AFTER: Final = 5_000
"""Image sets of a partition after which it is published though more of it are lacking: what a killed run loses."""
_PUBLISH_BYTES: Final = 32_000_000
_TRIES: Final = 5
"""Of a request beside a watch, which tries again a minute later what was not ready in some seconds."""
Take = Callable[[Collection[Partition]], Partition | None]
"""The partition to look at next, which is none of those that are under way; None: that was all for now."""
_FACTS: Final = ("image_set_id", "version", "created_at", "updated_at", "last_accessed_at", "storage_tier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """What a partition lacks.

    Attributes:
        partition: The partition.
        to_read: Image sets to read, newest first; in the columns of `image_sets` that the guard looks at.
        archived: Image sets that lack their series and are, or may be, in the archive.
        archived_bytes: As they are billed: what an earlier version's series say, at least the least.
        is_stale: Whether there are rows of image sets that are gone, or newer by now.
    """

    partition: Partition
    to_read: pa.Table = field(repr=False)
    archived: int
    archived_bytes: int
    is_stale: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataPlan:
    """What a reading would read; nothing is asked of the service.

    Attributes:
        image_sets: Those in the frequent tier that lack their series, a request each.
        archived: Those that are, or may be, in the archive.
        archived_bytes: Of these, as they are billed.
    """

    image_sets: int
    archived: int
    archived_bytes: int

    def hours(self, quota: Quota, *, with_archived: bool = False) -> float:
        """How long reading takes at a quota."""
        requests = self.image_sets + (self.archived if with_archived else 0)
        return max(requests - quota.burst, 0) / quota.rate / 3600

    def waking_dollars(self, prices: StoragePrices) -> float:
        """What the archived ones would cost more for the 30 days that they stay in the frequent tier."""
        return self.archived_bytes / GIGABYTE * (prices.frequent - prices.archive)


@redact_errors
def read_metadata(
    settings: Settings,
    executor: ScanExecutor,
    stop: threading.Event,
    *,
    clock: Clock = now,
    connection: Connection | None = None,
    load_key: LoadKey = load_phi_key,
) -> RunReport:
    """Read the metadata of image sets that `series` lacks, newest first.

    Args:
        settings: What to read and where to write.
        executor: Where image sets are read.
        stop: Set it to end the run early, with what is read published.
        clock: The local clock, aware.
        connection: Shared with runs on other data stores; None: one of its own.
        load_key: Loads the key of pseudonyms.

    Raises:
        UsageError: There is no catalog, or a keyword is none of the DICOM dictionary.
        AhiCatalogError: The run failed; what was read by then is published.
    """
    connection = connection or connect(settings)
    setup = open_run(settings, executor, stop, clock=clock, connection=connection, load_key=load_key)
    with _running(setup, connection) as (run, read):
        whole = iter(_newest_first(run.catalog, run.datastore_id))
        read(lambda _: next(whole, None))
    return run.report


@contextmanager
def _running(
    setup: RunSetup, connection: Connection, *, has_heartbeat: bool = True
) -> Iterator[tuple[Run, Callable[[Take], Collection[Partition]]]]:
    """A run, and what reads and publishes all that partitions lack.

    That may be called again and again, and returns partitions with image sets that the service was not ready for.
    """
    settings, stop = setup.settings, setup.stop
    catalog, protect = setup.open_catalog()
    extend_catalog(catalog, settings.metadata)
    source, phi = open_metadata_source(settings, stop, connection), catalog.description.phi
    reading = make_reading(source, cache(partial(make_protection, phi, settings, setup.load_key)), stop)
    task = ScanTask(settings, phi, setup.load_key, reading)
    archived: dict[Partition, int] = {}
    with setup.running("metadata", catalog, protect, has_heartbeat=has_heartbeat) as run:
        run.report.metadata = MetadataCounts()

        def read(take: Take) -> Collection[Partition]:
            with ThreadPoolExecutor(catalog.store.writers, thread_name_prefix="publish") as publishers:
                return _Reading(run, task, publishers, archived).run_to_end(take)

        yield run, read


class MetadataJob(BackgroundJob):
    """Reads the metadata of what a watch publishes: a run an hour, which looks at the whole catalog once.

    What passes have published comes before the rest of the catalog.

    Args:
        settings: Of the watch. Archived image sets are not read, whatever they say.
        clock: The local clock, aware.
        connection: To the service.
        load_key: Loads the key of pseudonyms.
        then: Called when something was published.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock,
        connection: Connection,
        load_key: LoadKey,
        then: Callable[[], None] | None = None,
    ) -> None:
        super().__init__("the metadata of what is new is not read", clock)
        options = replace(settings.metadata, archived=False)
        tries = min(settings.max_attempts, _TRIES)
        self._settings = for_metadata(replace(settings, metadata=options, max_attempts=tries))
        self._connection = connection
        self._load_key = load_key
        self._then = then
        self._stop = threading.Event()
        self._published: set[Partition] = set()
        self._adding = threading.Lock()
        self._is_new_hour = False
        self._hour: ExitStack | None = None
        self._hours_run: Run
        self._read: Callable[[Take], Collection[Partition]]
        self._whole: Iterator[Partition]
        self._last_failure: Exception | None = None

    def begin_hour(self) -> None:
        """Have the whole catalog looked at again, in a run of its own."""
        self._is_new_hour = self._is_due = True
        self.start()

    def follow(self, changed: Collection[Partition]) -> None:
        """Have partitions that were published looked at."""
        self._add(changed)
        super().follow(changed)

    def end(self) -> None:
        """End the reading in order: what is read is published, and the report is kept."""
        self._stop.set()
        self._join()
        self._end_hour()

    @redact_errors
    def work(self) -> bool:
        """Read what is lacking; whether the service was not ready for some of it."""
        if self._is_new_hour:
            self._end_hour()
            self._open_hour()
        run, taken = self._hours_run, set[Partition]()
        left: Collection[Partition] = taken
        written = run.report.partitions_written
        try:
            run.catalog.refuse_replaced()
            left = self._read(partial(self._take, taken))
            self._last_failure = None
        except Exception as error:
            self._last_failure = error
            raise
        finally:
            self._add(left)
            if self._then and run.report.partitions_written > written:
                self._then()
        return bool(left)

    def _open_hour(self) -> None:
        settings = self._settings
        with ExitStack() as stack:
            # Threads of its own: the passes' are for scans.
            executor = stack.enter_context(open_threads(settings.workers))
            setup = open_run(
                settings,
                executor,
                self._stop,
                clock=self._clock,
                connection=self._connection,
                load_key=self._load_key,
            )
            self._hours_run, self._read = stack.enter_context(_running(setup, self._connection, has_heartbeat=False))
            self._whole = iter(_newest_first(self._hours_run.catalog, settings.datastore_id))
            self._hour = stack.pop_all()
        self._is_new_hour = False

    def _end_hour(self) -> None:
        """Keep the hour's report: as failed, where the last reading was."""
        if self._hour is not None:
            hour, failure, self._hour = self._hour, self._last_failure, None
            hour.__exit__(type(failure) if failure else None, failure, None)

    def _add(self, partitions: Collection[Partition]) -> None:
        with self._adding:
            self._published.update(partitions)

    def _take(self, taken: set[Partition], under_way: Collection[Partition]) -> Partition | None:
        with self._adding:
            found = max(self._published.difference(under_way), default=None)
            if found is not None:
                self._published.remove(found)
        if found is None:
            found = next((each for each in self._whole if each not in taken), None)
        if found is not None:
            taken.add(found)
        return found


def extend_catalog(catalog: Catalog, options: MetadataOptions) -> None:
    """Have the catalog keep the keywords and the table that are asked for.

    Raises:
        UsageError: A keyword is none of the DICOM dictionary.
    """
    known = catalog.description.keywords
    try:
        more = value_representations(each for each in options.keyword if each not in known)
    except ValueError as error:
        raise UsageError(f"`keyword`: {error}") from None
    if more or (options.instances and not catalog.description.has_instances):
        catalog.extend_description(more, with_instances=options.instances)


def plan_metadata(catalog: Catalog, datastore_id: str, at: datetime) -> MetadataPlan:
    """What a reading of a data store would read at a moment."""
    found = list(lacks(catalog, datastore_id, lambda: at, with_archived=False))
    return MetadataPlan(
        image_sets=sum(len(lack.to_read) for lack in found),
        archived=sum(lack.archived for lack in found),
        archived_bytes=sum(lack.archived_bytes for lack in found),
    )


def for_metadata(settings: Settings) -> Settings:
    """The settings, with as many image sets read side by side as the quota of metadata needs, unless they say it."""
    workers = settings.metadata.quota.workers
    return replace(settings, concurrency=settings.concurrency or workers)


def lacks(catalog: Catalog, datastore_id: str, at: Callable[[], datetime], *, with_archived: bool) -> Iterator[Lack]:
    """What is lacking, partition by partition, the newest first; those that lack nothing are left out.

    Args:
        catalog: The catalog.
        datastore_id: The data store.
        at: The service's clock, aware; read where something is lacking.
        with_archived: Whether archived image sets are to be read too.
    """
    for partition in _newest_first(catalog, datastore_id):
        if lack := _lack(catalog, partition, at, with_archived=with_archived):
            yield lack


def _newest_first(catalog: Catalog, datastore_id: str) -> list[Partition]:
    return sorted(catalog.partitions(datastore_id), reverse=True)


def _lack(catalog: Catalog, partition: Partition, at: Callable[[], datetime], *, with_archived: bool) -> Lack | None:
    """What a partition lacks; None where it lacks nothing."""
    held = {table: _held(catalog, table, partition) for table in _tables(catalog)}
    image_sets = _columns(catalog, IMAGE_SETS, partition, _FACTS)
    wanted = origins_of(IMAGE_SETS, image_sets)
    lacking = image_sets.filter(pc.invert(pc.is_in(wanted, _complete(catalog, held))))
    stale = any(not pc.all(pc.is_in(origins_of(t, rows), wanted), min_count=0).as_py() for t, rows in held.items())
    if not (len(lacking) or stale):
        return None
    is_frequent = _is_frequent(lacking, at()) if len(lacking) else pa.array([], pa.bool_())
    to_read = lacking if with_archived else lacking.filter(is_frequent)
    archived = lacking.filter(pc.invert(is_frequent))
    return Lack(
        partition=partition,
        to_read=to_read.sort_by([("created_at", "descending"), ("image_set_id", "ascending")]),
        archived=len(archived),
        archived_bytes=_billed(archived, held[SERIES]) if len(archived) else 0,
        is_stale=stale,
    )


def _billed(image_sets: pa.Table, series: pa.Table) -> int:
    """The bytes of image sets as storage is billed, as far as their series are known."""
    least = LEAST_BYTES * len(image_sets)
    known = series.group_by("image_set_id").aggregate([("bytes", "sum")])
    known = known.filter(pc.is_in(known["image_set_id"], image_sets["image_set_id"]))
    beyond = pc.subtract(pc.max_element_wise(known["bytes_sum"], LEAST_BYTES), LEAST_BYTES)
    return least + int(pc.sum(beyond, min_count=0).as_py())


def _tables(catalog: Catalog) -> list[Table]:
    return [SERIES, INSTANCES] if catalog.description.has_instances else [SERIES]


def _columns(catalog: Catalog, table: Table, partition: Partition, names: Iterable[str]) -> pa.Table:
    key = partition.key(table)
    return read_columns(table, key, catalog.store.get(key), list(names))


def _held(catalog: Catalog, table: Table, partition: Partition) -> pa.Table:
    more = ("instances", "bytes", "attributes") if table is SERIES else ()
    return _columns(catalog, table, partition, ("image_set_id", "image_set_version", *more))


def _complete(catalog: Catalog, held: Mapping[Table, pa.Table]) -> pa.ChunkedArray:
    """What `origins_of` says of image sets that have all that the catalog keeps of them."""
    series = held[SERIES]
    for keyword in catalog.description.keywords:
        # Every row says something of each keyword that was kept when it was read, be it null.
        has_it = pc.match_substring(series["attributes"], f'"{keyword}":')
        series = series.filter(pc.fill_null(has_it, False))
    origins = origins_of(SERIES, series)
    if not catalog.description.has_instances:
        return origins
    has_them = pc.is_in(origins, origins_of(INSTANCES, held[INSTANCES]))
    return origins.filter(pc.or_(has_them, pc.equal(series["instances"], 0)))


def _is_frequent(image_sets: pa.Table, at: datetime) -> pa.ChunkedArray:
    """Whether each image set is surely in the frequent tier at a moment."""
    since = pa.scalar(at - UNTOUCHED, image_sets["created_at"].type)
    accessed = [pc.greater(image_sets[name], since) for name in ("created_at", "updated_at", "last_accessed_at")]
    is_frequent = pc.and_kleene(reduce(pc.or_kleene, accessed), pc.equal(image_sets["storage_tier"], FREQUENT))
    return pc.fill_null(is_frequent, False)


@dataclass(slots=True)
class _Waiting:
    """A partition under way: what was read of it and is not published, and how many tasks are still to come."""

    tasks: int = 0
    image_sets: int = 0
    bytes: int = 0
    is_due: bool = False
    rows: list[Mapping[str, pa.Table]] = field(default_factory=list)


class _Reading:
    """A run under way. Its state is changed by one thread; tasks hand their results in by a queue.

    What is read is published, whatever happens after: a stop and a failure end the reading alone.
    """

    def __init__(
        self, run: Run, task: ScanTask, publishers: ThreadPoolExecutor, archived: dict[Partition, int]
    ) -> None:
        self._run = run
        self._task = task
        self._results = Results()
        self._reading = 0
        self._waiting: dict[Partition, _Waiting] = {}
        self._publishing: Counter[Partition] = Counter()
        self._not_ready: set[Partition] = set()
        self._archived = archived
        self._began = time.monotonic()
        self._publishers = publishers

    def run_to_end(self, take: Take) -> Collection[Partition]:
        """Read and publish all that partitions lack; those with image sets that the service was not ready for.

        Raises:
            Exception: The first failure; what was read by then is published.
        """
        requests = self._requests(take)
        while self._start(requests):
            self._results.take()
        self._drain()
        for partition in list(self._waiting):
            self._publish(partition)
        self._drain()
        if self._results.failure is not None:
            raise self._results.failure
        return self._not_ready

    def _drain(self) -> None:
        while self._results.under_way:
            self._results.take()

    def _requests(self, take: Take) -> Iterator[tuple[Partition, MetadataRequest]]:
        catalog, with_archived = self._run.catalog, self._run.settings.metadata.archived
        description = catalog.description
        # Tiers move by the service's clock; it is asked only where something is lacking.
        at = cache(partial(self._run.source.clock, self._run.report.counts))
        for partition in iter(lambda: take({*self._waiting, *+self._publishing}), None):
            lack = _lack(catalog, partition, at, with_archived=with_archived)
            archived = 0 if with_archived or lack is None else lack.archived
            # A watch looks at a partition again and again.
            self._counts.archived += archived - self._archived.get(partition, 0)
            self._archived[partition] = archived
            if lack is None:
                continue
            chunks = [lack.to_read.slice(start, _CHUNK) for start in range(0, len(lack.to_read), _CHUNK)]
            self._waiting[lack.partition] = _Waiting(tasks=len(chunks), is_due=lack.is_stale)
            if not chunks:
                self._publish(lack.partition)
            for chunk in chunks:
                yield (
                    lack.partition,
                    MetadataRequest(
                        origins=tuple(_origins(chunk)),
                        keywords=tuple(sorted(description.keywords.items())),
                        with_instances=description.has_instances,
                    ),
                )

    @property
    def _counts(self) -> MetadataCounts:
        counts = self._run.report.metadata
        assert counts is not None  # noqa: S101  # made with the run
        return counts

    def _start(self, requests: Iterator[tuple[Partition, MetadataRequest]]) -> bool:
        """Start as many tasks as may wait; whether there was one more."""
        # Twice as many as run at once, so that none waits while the next partition is looked at.
        while self._reading < 2 * self._run.settings.workers:
            if self._results.failure is not None or self._run.stop.is_set():
                return False
            try:
                found = next(requests, None)
            except Exception as error:  # noqa: BLE001  # raised by run_to_end, after what is read is published
                self._results.failure = error
                return False
            if found is None:
                return False
            partition, request = found
            pending = self._run.executor.submit(self._task, request)
            self._reading += 1
            self._results.expect(pending, partial(self._add_read, partition))
        return True

    def _add_read(self, partition: Partition, result: Callable[[], Any]) -> None:
        self._reading -= 1
        waiting = self._waiting[partition]
        waiting.tasks -= 1
        done: MetadataResult = result()
        report = self._run.report
        report.counts.add(done.counts)
        report.rows_read += done.read
        self._counts.count(partition.value, done.left)
        if Left.NOT_READY in done.left:
            self._not_ready.add(partition)
        self._run.tell_progress("reading metadata", 0, 0, since=self._began)
        waiting.rows.append(done.rows)
        waiting.image_sets += done.read
        waiting.bytes += sum(rows.nbytes for rows in done.rows.values())
        waiting.is_due |= done.read > 0
        if not waiting.tasks or waiting.image_sets >= _PUBLISH_AFTER or waiting.bytes >= _PUBLISH_BYTES:
            self._publish(partition)

    def _publish(self, partition: Partition) -> None:
        waiting = self._waiting[partition]
        if waiting.tasks:
            self._waiting[partition] = _Waiting(tasks=waiting.tasks)
        else:
            del self._waiting[partition]
        if not waiting.is_due:
            return
        for table in _tables(self._run.catalog):
            rows = [found[table.name] for found in waiting.rows if table.name in found]
            joined = pa.concat_tables([table.schema.empty_table(), *rows])
            publishing = self._publishers.submit(renew_partition, self._run.catalog.store, table, partition, joined)
            self._publishing[partition] += 1
            self._results.expect(publishing, partial(self._add_published, partition))

    def _add_published(self, partition: Partition, result: Callable[[], Published]) -> None:
        self._publishing[partition] -= 1
        self._run.report.count_published(result())


def _origins(image_sets: pa.Table) -> Iterator[Origin]:
    for row in image_sets.select(["image_set_id", "version", "created_at"]).to_pylist():
        yield Origin(image_set_id=row["image_set_id"], version=row["version"], created_at=row["created_at"])
