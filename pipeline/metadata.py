"""Metadata: what `series` and `instances` lack, read newest first, and published partition by partition.

What is lacking is the difference of two columns of two tables, so a run needs no state of its own: it may end anywhere,
run beside syncs and verifies, and beside itself; the next one reads what is lacking then.

The tier guard: by default an image set is read only where it is in the frequent tier now. The catalog's tier is as old
as the last sync that saw it, and the service moves what nobody accessed for 30 days into the archive, so the last
access has to be younger.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache, partial, reduce
from hashlib import blake2b
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.connectors.catalog import Catalog, Partition
from ahi_catalog.connectors.catalog.merge import origins_of
from ahi_catalog.connectors.catalog.publishing import read_columns, renew_partition
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.healthimaging.metadata import MetadataRequest, MetadataResult
from ahi_catalog.connectors.healthimaging.source import Connection, connect, open_metadata_source
from ahi_catalog.connectors.phi_key import load_phi_key
from ahi_catalog.connectors.redaction import redact_errors
from ahi_catalog.connectors.settings import MetadataOptions, Quota, Settings
from ahi_catalog.pipeline.privacy import LoadKey, make_protection
from ahi_catalog.pipeline.results import Results
from ahi_catalog.pipeline.run import Clock, Run, now, open_run
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
_LEAST_SAMPLE: Final = 10
"""Image sets of a partition that are sampled, where it has as many."""
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
class Sample:
    """Image sets of a partition whose metadata is read again.

    Attributes:
        partition: The partition.
        to_read: The image sets, in the columns of `image_sets` that the guard looks at.
        archived: How many are, or may be, in the archive, and so in no sample.
    """

    partition: Partition
    to_read: pa.Table = field(repr=False)
    archived: int


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
    setup = open_run(settings, executor, stop, clock=clock, connection=connection, load_key=load_key)
    catalog, protect = setup.open_catalog()
    extend_catalog(catalog, settings.metadata)
    shared = connection or connect(settings)
    with setup.running("metadata", catalog, protect) as run:
        run.report.metadata = MetadataCounts()
        with ThreadPoolExecutor(catalog.store.writers, thread_name_prefix="publish") as publishers:
            # Tiers move by the service's clock; it is asked only where something is lacking.
            at = cache(partial(run.source.clock, run.report.counts))
            _Reading(run, reading_task(run, setup.load_key, shared), publishers).run_to_end(at)
    return run.report


def reading_task(run: Run, load_key: LoadKey, connection: Connection) -> ScanTask:
    """What reads metadata for a run, in this process or on a cluster.

    Args:
        run: The run.
        load_key: Loads the key of pseudonyms.
        connection: To the service.
    """
    settings, phi = run.settings, run.catalog.description.phi
    protection = cache(partial(make_protection, phi, settings, load_key))
    reading = make_reading(open_metadata_source(settings, run.stop, connection), protection, run.stop)
    return ScanTask(settings, phi, load_key, reading)


def requests_for(catalog: Catalog, image_sets: pa.Table) -> list[MetadataRequest]:
    """What reads image sets of one partition, in their order.

    Args:
        catalog: What it keeps of them.
        image_sets: In the columns `image_set_id`, `version` and `created_at` at least.
    """
    description = catalog.description
    rows = image_sets.select(["image_set_id", "version", "created_at"]).to_pylist()
    origins = [Origin(image_set_id=r["image_set_id"], version=r["version"], created_at=r["created_at"]) for r in rows]
    return [
        MetadataRequest(
            origins=tuple(origins[start : start + _CHUNK]),
            keywords=tuple(sorted(description.keywords.items())),
            with_instances=description.has_instances,
        )
        for start in range(0, len(origins), _CHUNK)
    ]


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
    for partition, image_sets, held, complete in _looks(catalog, datastore_id):
        wanted = origins_of(IMAGE_SETS, image_sets)
        lacking = image_sets.filter(pc.invert(pc.is_in(wanted, complete)))
        is_frequent = _is_frequent(lacking, at()) if len(lacking) else pa.array([], pa.bool_())
        to_read = lacking if with_archived else lacking.filter(is_frequent)
        stale = any(not pc.all(pc.is_in(origins_of(t, rows), wanted), min_count=0).as_py() for t, rows in held.items())
        archived = lacking.filter(pc.invert(is_frequent))
        if len(lacking) or stale:
            newest_first = to_read.sort_by([("created_at", "descending"), ("image_set_id", "ascending")])
            yield Lack(
                partition=partition,
                to_read=newest_first,
                archived=len(archived),
                archived_bytes=_billed(archived, held.get(SERIES)) if len(archived) else 0,
                is_stale=stale,
            )


def samples(
    catalog: Catalog,
    datastore_id: str,
    at: Callable[[], datetime],
    *,
    share: float,
    seed: str,
    read_to: datetime,
    with_changed: bool,
    has: Callable[[Partition], bool],
) -> Iterator[Sample]:
    """What a verify reads again: of each partition a share of the image sets, and ten at least.

    Of those that have their rows, and of those that the last reading should have met. Which ones follows from their
    ids and the seed.

    Args:
        catalog: The catalog.
        datastore_id: The data store.
        at: The service's clock, aware; read where there is something to sample.
        share: Of a partition's image sets; above 0, at most 1.
        seed: Another one names another sample.
        read_to: What has not changed since this moment should have its rows; aware.
        with_changed: Whether those are among them whose rows are of an earlier version.
        has: The partitions that are asked for.
    """
    for partition, image_sets, held, complete in _looks(catalog, datastore_id, has):
        has_rows = pc.is_in(origins_of(IMAGE_SETS, image_sets), complete)
        if with_changed and SERIES in held:
            has_rows = pc.is_in(image_sets["image_set_id"], held[SERIES]["image_set_id"])
        known = image_sets.filter(pc.or_(has_rows, pc.invert(_is_used_since(image_sets, read_to))))
        if not len(known):
            continue
        readable = known.filter(_is_frequent(known, at()))
        count = max(math.ceil(share * len(readable)), _LEAST_SAMPLE)
        ids = enumerate(readable["image_set_id"].to_pylist())
        by_hash = sorted((blake2b(f"{seed} {name}".encode(), digest_size=8).digest(), place) for place, name in ids)
        places = pa.array(sorted(place for _, place in by_hash[:count]), pa.int64())
        yield Sample(partition=partition, to_read=readable.take(places), archived=len(known) - len(readable))


def _looks(
    catalog: Catalog, datastore_id: str, has: Callable[[Partition], bool] = lambda _: True
) -> Iterator[tuple[Partition, pa.Table, dict[Table, pa.Table], pa.ChunkedArray]]:
    """Of each partition, the newest first: its image sets, the rows of them, and whose rows are complete."""
    tables = _tables(catalog)
    present = {table: catalog.partitions(datastore_id, table) for table in tables}
    for partition in sorted(filter(has, catalog.partitions(datastore_id)), reverse=True):
        held = {table: _held(catalog, table, partition) for table in tables if partition in present[table]}
        yield partition, _columns(catalog, IMAGE_SETS, partition, _FACTS), held, _complete(catalog, held)


def _billed(image_sets: pa.Table, series: pa.Table | None) -> int:
    """The bytes of image sets as storage is billed, as far as their series are known."""
    least = LEAST_BYTES * len(image_sets)
    if series is None:
        return least
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
    series = held.get(SERIES)
    if series is None:
        return pa.chunked_array([], pa.string())
    for keyword in catalog.description.keywords:
        # Every row says something of each keyword that was kept when it was read, be it null.
        has_it = pc.match_substring(series["attributes"], f'"{keyword}":')
        series = series.filter(pc.fill_null(has_it, False))
    origins = origins_of(SERIES, series)
    if not catalog.description.has_instances:
        return origins
    instances = held.get(INSTANCES, INSTANCES.schema.empty_table())
    has_them = pc.is_in(origins, origins_of(INSTANCES, instances))
    return origins.filter(pc.or_(has_them, pc.equal(series["instances"], 0)))


def _is_frequent(image_sets: pa.Table, at: datetime) -> pa.ChunkedArray:
    """Whether each image set is surely in the frequent tier at a moment."""
    is_used = _is_used_since(image_sets, at - UNTOUCHED)
    return pc.fill_null(pc.and_kleene(is_used, pc.equal(image_sets["storage_tier"], FREQUENT)), False)


def _is_used_since(image_sets: pa.Table, moment: datetime) -> pa.ChunkedArray:
    """Whether each image set was created, changed or accessed after a moment, as far as the catalog knows."""
    since = pa.scalar(moment, image_sets["created_at"].type)
    used = [pc.greater(image_sets[name], since) for name in ("created_at", "updated_at", "last_accessed_at")]
    return pc.fill_null(reduce(pc.or_kleene, used), False)


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

    def __init__(self, run: Run, task: ScanTask, publishers: ThreadPoolExecutor) -> None:
        self._run = run
        self._task = task
        self._results = Results()
        self._reading = 0
        self._waiting: dict[Partition, _Waiting] = {}
        self._began = time.monotonic()
        self._publishers = publishers

    def run_to_end(self, at: Callable[[], datetime]) -> None:
        """Read and publish all that is lacking.

        Raises:
            Exception: The first failure; what was read by then is published.
        """
        requests = self._requests(at)
        while self._start(requests):
            self._results.take()
        self._drain()
        for partition in list(self._waiting):
            self._publish(partition)
        self._drain()
        if self._results.failure is not None:
            raise self._results.failure

    def _drain(self) -> None:
        while self._results.under_way:
            self._results.take()

    def _requests(self, at: Callable[[], datetime]) -> Iterator[tuple[Partition, MetadataRequest]]:
        with_archived = self._run.settings.metadata.archived
        for lack in lacks(self._run.catalog, self._run.datastore_id, at, with_archived=with_archived):
            self._counts.archived += 0 if with_archived else lack.archived
            requests = requests_for(self._run.catalog, lack.to_read)
            self._waiting[lack.partition] = _Waiting(tasks=len(requests), is_due=lack.is_stale)
            if not requests:
                self._publish(lack.partition)
            yield from ((lack.partition, request) for request in requests)

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
            self._results.expect(publishing, lambda result: self._run.report.count_published(result()))
