"""Metadata: what `series` and `instances` lack, read newest first, and published partition by partition.

A run needs no state of its own: it may end anywhere, run beside syncs and verifies, and beside itself; the next one
reads what is lacking then.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, Final

import pyarrow as pa

from ahi_catalog.connectors.catalog import Catalog, Partition, Published
from ahi_catalog.connectors.catalog.publishing import renew_partition
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.healthimaging.metadata import Left, MetadataRequest, MetadataResult
from ahi_catalog.connectors.healthimaging.source import Connection, connect, open_metadata_source
from ahi_catalog.connectors.phi_key import load_phi_key
from ahi_catalog.connectors.redaction import redact_errors
from ahi_catalog.connectors.settings import MetadataOptions, Settings
from ahi_catalog.pipeline.lacks import find_lack, kept, metadata_tables, newest_first
from ahi_catalog.pipeline.notifying import notified
from ahi_catalog.pipeline.privacy import LoadKey, make_protection
from ahi_catalog.pipeline.results import Results
from ahi_catalog.pipeline.run import Clock, Run, RunSetup, now, open_run
from ahi_catalog.pipeline.run_report import MetadataCounts, RunReport
from ahi_catalog.pipeline.scan_task import ScanExecutor, ScanTask, make_reading
from ahi_catalog.schemas.decoding.metadata import Origin
from ahi_catalog.schemas.keywords import value_representations

_CHUNK: Final = 25
"""Image sets of a task: half a second of the default quota, which is what a dead worker loses."""
_PUBLISH_AFTER: Final = 5_000
"""Image sets of a partition after which it is published though more of it are lacking: what a killed run loses."""
_PUBLISH_BYTES: Final = 32_000_000
Take = Callable[[Collection[Partition]], Partition | None]
"""The partition to look at next, which is none of those that are under way; None: that was all for now."""


@notified("metadata")
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
    with reading(setup, connection) as (run, read):
        whole = iter(newest_first(run.catalog, run.datastore_id))
        read(lambda _: next(whole, None))
    return run.report


@contextmanager
def reading(
    setup: RunSetup, connection: Connection, *, has_heartbeat: bool = True
) -> Iterator[tuple[Run, Callable[[Take], Collection[Partition]]]]:
    """A run, and what reads and publishes all that partitions lack.

    That may be called again and again, and returns partitions with image sets that the service was not ready for.

    Args:
        setup: Of the run.
        connection: To the service.
        has_heartbeat: Whether a heartbeat is kept beside the run's report.
    """
    catalog, protect = setup.open_catalog()
    extend_catalog(catalog, setup.settings.metadata)
    with setup.running("metadata", catalog, protect, has_heartbeat=has_heartbeat) as run:
        run.report.metadata = MetadataCounts(keeps=kept(catalog))
        task = reading_task(run, setup.load_key, connection)

        def read(take: Take) -> Collection[Partition]:
            with ThreadPoolExecutor(catalog.store.writers, thread_name_prefix="publish") as publishers:
                return _Reading(run, task, publishers).run_to_end(take)

        yield run, read


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


def for_metadata(settings: Settings) -> Settings:
    """The settings, with as many image sets read side by side as the quota of metadata needs, unless they say it."""
    workers = settings.metadata.quota.workers
    return replace(settings, concurrency=settings.concurrency or workers)


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
        self._publishing: Counter[Partition] = Counter()
        self._not_ready: set[Partition] = set()
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
        at = self._run.reading_clock()
        for partition in iter(lambda: take({*self._waiting, *+self._publishing}), None):
            lack = find_lack(catalog, partition, at, with_archived=with_archived)
            self._counts.begin(partition.value, 0 if with_archived or lack is None else lack.archived)
            if lack is None:
                continue
            requests = requests_for(catalog, lack.to_read)
            self._waiting[partition] = _Waiting(tasks=len(requests), is_due=lack.is_stale)
            if not requests:
                self._publish(partition)
            yield from ((partition, request) for request in requests)

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
        for table in metadata_tables(self._run.catalog):
            rows = [found[table.name] for found in waiting.rows if table.name in found]
            joined = pa.concat_tables([table.schema.empty_table(), *rows])
            publishing = self._publishers.submit(renew_partition, self._run.catalog.store, table, partition, joined)
            self._publishing[partition] += 1
            self._results.expect(publishing, partial(self._add_published, partition))

    def _add_published(self, partition: Partition, result: Callable[[], Published]) -> None:
        self._publishing[partition] -= 1
        self._run.report.count_published(result())
