"""What is in a catalog, in numbers: for `status`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from ahi_catalog.connectors.catalog.catalog import Catalog
from ahi_catalog.connectors.catalog.checkpoint import Checkpoint
from ahi_catalog.connectors.catalog.dataset import count_rows
from ahi_catalog.connectors.catalog.freshness import Freshness
from ahi_catalog.connectors.catalog.heartbeat import Heartbeat
from ahi_catalog.connectors.catalog.layout import parse_partition
from ahi_catalog.connectors.catalog.verification import Verification
from ahi_catalog.connectors.errors import DamagedError, Remedy, StateError
from ahi_catalog.connectors.windows import NOWHERE, Coverage, Window
from ahi_catalog.schemas import IMAGE_SETS

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One data store's part of a catalog.

    Attributes:
        start: Where syncs begin to read; None where none has begun yet.
        watermark: End of the first covered window from there on; None where nothing is covered.
        followed_to: Changes are merged up to here; None where nothing was ever synced.
        coverage: All that is covered.
        gaps: What lies between the covered windows from there on.
        lost: Partitions that had an object, and have none.
        unknown_fields: Fields that the service sent and the declaration does not know, and since when.
        rows: Image sets in the table.
        bytes: Of the data objects.
        partitions: Data objects.
        runs: The newest run reports, newest first.
        verification: The last one; None where there was none.
        heartbeat: Of the last watch; None where there was none.
        freshness: Of the new rows of those runs, and of the watch that goes on.
        problems: What is damaged or lost, as far as can be told without the service; a line each.
        is_repairable: Whether a verify that repairs would help against some of them.
        to_repair: The ranges that it needs; None: all.
    """

    datastore_id: str
    start: datetime | None
    watermark: datetime | None
    followed_to: datetime | None
    coverage: Coverage
    gaps: Coverage
    lost: Coverage
    unknown_fields: Mapping[str, datetime]
    rows: int
    bytes: int
    partitions: int
    runs: list[dict[str, Any]]
    verification: Verification | None
    heartbeat: Heartbeat | None
    freshness: Freshness
    problems: list[str]
    is_repairable: bool
    to_repair: Coverage | None


def summarize(catalog: Catalog, datastore_id: str, *, runs: int) -> Summary:
    """The numbers of one data store.

    Args:
        catalog: The catalog.
        datastore_id: The data store.
        runs: How many run reports, at most.

    Raises:
        StoreError: The store refuses, or cannot be reached.
    """
    problems: list[str] = []
    remedies: set[Remedy | None] = set()

    def read(what: Callable[[], _T | None]) -> _T | None:
        try:
            return what()
        except StateError as error:
            problems.append(str(error))
            remedies.add(error.remedy)
            return None

    # Before the objects are listed: what a run publishes in between is no loss then.
    checkpoint = read(lambda: _checkpoint(catalog, datastore_id))
    verification = read(lambda: catalog.verification(datastore_id))
    heartbeat = read(lambda: catalog.heartbeat(datastore_id))
    reports = [read(partial(catalog.run, key)) for key in catalog.run_keys(datastore_id)[:runs]]
    objects = catalog.objects(datastore_id)
    partitions = objects.partitions
    coverage, populated = (checkpoint.coverage, checkpoint.populated) if checkpoint else (NOWHERE, NOWHERE)
    lost = populated.minus(partition.window for partition in partitions)
    problems += [f"data objects are lost: {window}" for window in lost]
    windows = {partition.key(IMAGE_SETS): partition.window for partition in partitions}
    rows, unreadable = count_rows(catalog, list(windows))
    problems += [f"a data object is unreadable: {key}" for key in unreadable]
    problems += [f"a file is none of the catalog's, and yours to delete: {key}" for key in objects.unexpected]
    to_repair = lost.union(windows[key] for key in unreadable)
    known = [report for report in reports if report is not None]
    return Summary(
        datastore_id=datastore_id,
        start=checkpoint.begins_at if checkpoint else None,
        watermark=checkpoint.watermark if checkpoint else None,
        followed_to=checkpoint.followed_to if checkpoint else None,
        coverage=coverage,
        gaps=_gaps(coverage, checkpoint.begins_at if checkpoint else None),
        lost=lost,
        unknown_fields=checkpoint.unknown_fields if checkpoint else {},
        rows=rows,
        bytes=sum(entry.size for entry in partitions.values()),
        partitions=len(partitions),
        runs=known,
        verification=verification,
        heartbeat=heartbeat,
        freshness=_freshness(known, heartbeat),
        problems=problems,
        is_repairable=bool(to_repair) or Remedy.REPAIR in remedies,
        to_repair=None if Remedy.REPAIR in remedies else to_repair,
    )


def find_lost(catalog: Catalog, keys: Iterable[str]) -> dict[str, Coverage]:
    """By data store, the partitions that had an object and have none, by the checkpoints.

    A data store without any object is looked for where no other has one.

    Args:
        catalog: The catalog.
        keys: Of the data objects, as they were listed.

    Raises:
        StoreError: The store refuses, or cannot be reached.
        StateError: A checkpoint cannot be read.
    """
    listed = [found for key in keys if (found := parse_partition(IMAGE_SETS, key))]
    present: dict[str, list[Window]] = {found.datastore_id: [] for found in listed}
    for found in listed:
        present[found.datastore_id].append(found.window)
    lost = {}
    for datastore_id in present or catalog.datastore_ids():
        checkpoint = catalog.checkpoint(datastore_id)
        if checkpoint and checkpoint.populated.minus(present.get(datastore_id, ())):
            # What was published since the listing is not lost.
            partitions = catalog.partitions(datastore_id)
            lost[datastore_id] = checkpoint.populated.minus(partition.window for partition in partitions)
    return {datastore_id: ranges for datastore_id, ranges in lost.items() if ranges}


def _freshness(reports: Iterable[dict[str, Any]], heartbeat: Heartbeat | None) -> Freshness:
    freshness = Freshness()
    for report in reports:
        freshness.merge(Freshness.parse(report.get("freshness")))
    if heartbeat is not None:
        freshness.merge(heartbeat.freshness)
    return freshness


def _checkpoint(catalog: Catalog, datastore_id: str) -> Checkpoint:
    found = catalog.checkpoint(datastore_id)
    if found is None:
        raise DamagedError("the checkpoint is lost", remedy=Remedy.REPAIR)
    return found


def _gaps(coverage: Coverage, start: datetime | None) -> Coverage:
    if not coverage:
        return coverage
    first, end = coverage.windows[0].start, coverage.windows[-1].end
    begins_at = start or first
    return Coverage([Window(begins_at, end)] if begins_at < end else ()).minus(coverage)
