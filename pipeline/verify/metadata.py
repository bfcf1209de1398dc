"""A sample of the metadata, read again and compared with `series` and `instances`; repaired if asked to.

It is read as :mod:`ahi_catalog.pipeline.metadata` reads, and nothing of it that may be in the archive. The sample
follows from image set ids and a seed: each verify looks elsewhere, and a repair, which takes the seed of the verify
that found something, mends it without reading everything.
"""

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.connectors.catalog import Partition
from ahi_catalog.connectors.catalog.merge import origins_of
from ahi_catalog.connectors.catalog.publishing import MERGING, read_object, renew_partition
from ahi_catalog.connectors.catalog.verification import Finding
from ahi_catalog.connectors.errors import StateError, StoppedError
from ahi_catalog.connectors.rows import pick
from ahi_catalog.connectors.settings import EARLIEST
from ahi_catalog.connectors.windows import NOWHERE, Coverage, parse_time
from ahi_catalog.pipeline.lacks import kept, samples
from ahi_catalog.pipeline.metadata import requests_for
from ahi_catalog.pipeline.run import Run
from ahi_catalog.pipeline.run_report import MetadataCounts, Outcome
from ahi_catalog.pipeline.scan_task import Pending, ScanTask
from ahi_catalog.pipeline.verify.comparison import compare_derived
from ahi_catalog.pipeline.verify.sink import Verifier
from ahi_catalog.schemas import IMAGE_SETS, SERIES, Table
from ahi_catalog.schemas.series import DERIVED_TABLES

_MOST_REPORTS: Final = 200
"""Run reports among which the last reading of metadata is looked for."""
_MOST_BYTES: Final = 8_000_000
"""Of rows that wait to be compared."""


@dataclass(frozen=True, slots=True)
class _Read:
    """Image sets of a partition that are being read."""

    partition: Partition
    pending: Pending
    is_last: bool


def check_metadata(
    run: Run, verifier: Verifier, task: ScanTask, share: float, has: Callable[[Partition], bool]
) -> None:
    """Read a sample of the metadata again, and compare it with what the catalog has.

    Args:
        run: The run.
        verifier: Keeps what is found, partition by partition.
        task: Reads metadata.
        share: Of each partition's image sets.
        has: The partitions that are asked for.

    Raises:
        SourceError: The service refuses, or failed so often that the run gives up.
        StoppedError: The run was asked to stop.
    """
    began = time.monotonic()
    run.report.metadata = counts = MetadataCounts(keeps=kept(run.catalog))
    found: dict[str, Counter[Finding]] = defaultdict(Counter)
    rows: dict[str, list[pa.Table]] = defaultdict(list)
    reads = _reads(run, verifier, task, share, has)
    under_way = deque(islice(reads, 2 * run.settings.workers))
    while under_way:
        read = under_way.popleft()
        result = read.pending.result()
        if run.stop.is_set():
            raise StoppedError("stopped while metadata was compared")  # with a part of the result, perhaps
        under_way.extend(islice(reads, 1))
        run.report.counts.add(result.counts)
        counts.compared += result.read
        counts.count(read.partition.value, result.left)
        run.tell_progress("comparing metadata", 0, 0, since=began)
        for name, its in result.rows.items():
            rows[name].append(its)
        if read.is_last or sum(its.nbytes for several in rows.values() for its in several) > _MOST_BYTES:
            read_again = {name: pa.concat_tables(several) for name, several in rows.items()}
            rows.clear()
            for table in DERIVED_TABLES:
                if table.name in read_again:
                    found[f"{table.name} {read.partition.value}"] += _compare(run, verifier, table, read, read_again)
        if read.is_last:
            sampled = (verifier.verification.sampled or NOWHERE).union([read.partition.window])
            verifier.keep(replace(verifier.verification, sampled=sampled).noting(found.items()))
            found.clear()


def _reads(
    run: Run, verifier: Verifier, task: ScanTask, share: float, has: Callable[[Partition], bool]
) -> Iterator[_Read]:
    counts, begun = run.report.metadata, verifier.verification
    assert counts is not None  # noqa: S101  # made by who asks for reads
    for sample in samples(
        run.catalog,
        run.datastore_id,
        run.reading_clock(),
        share=share,
        seed=begun.seed,
        read_to=_last_reading(run),
        with_changed=begun.is_repairing,
        has=lambda each: has(each) and bool(Coverage([each.window]).minus(begun.sampled or NOWHERE)),
    ):
        counts.begin(sample.partition.value, sample.archived)
        requests = requests_for(run.catalog, sample.to_read)
        for place, request in enumerate(requests, 1):
            yield _Read(sample.partition, run.executor.submit(task, request), place == len(requests))


def _compare(run: Run, verifier: Verifier, table: Table, read: _Read, found: dict[str, pa.Table]) -> Counter[Finding]:
    """What is wrong with the rows of image sets in a table; repaired if asked to."""
    store, partition = run.catalog.store, read.partition
    key, whole = partition.key(table), partition.key(IMAGE_SETS)
    stored = store.get(key)
    # Read last: what another run has changed meanwhile, it has changed there first.
    image_sets = store.get(whole)
    with MERGING:
        current = origins_of(IMAGE_SETS, read_object(IMAGE_SETS, whole, image_sets, ["image_set_id", "version"]))
        series = found[SERIES.name]
        ids = series["image_set_id"].filter(pc.is_in(origins_of(SERIES, series), current))
        there, read_again = (
            pick(rows, pc.is_in(rows["image_set_id"], ids))
            for rows in (read_object(table, key, stored), found[table.name])
        )
        wrong = compare_derived(table, there, read_again)
    if wrong and verifier.verification.is_repairing:
        run.report.count_published(renew_partition(store, table, partition, found[table.name]))
    return wrong


def _last_reading(run: Run) -> datetime:
    """Up to when the last reading that came to its end has read all that the catalog keeps, as far as reports tell."""
    for key in run.catalog.run_keys(run.datastore_id)[:_MOST_REPORTS]:
        try:
            report = run.catalog.run(key) or {}
        except StateError:
            continue  # `status` tells of it
        is_whole = (report.get("flow"), report.get("outcome")) == ("metadata", Outcome.DONE)
        if is_whole and report["metadata"].get("keeps") == kept(run.catalog):
            # What a sync beside it published late may have been too late for it.
            return parse_time(report["started_at"]) - run.settings.settle
    return EARLIEST
