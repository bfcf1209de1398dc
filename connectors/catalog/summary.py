"""What is in a catalog, in numbers: for `status`."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connectors.catalog.catalog import Catalog
from connectors.catalog.dataset import open_dataset
from connectors.catalog.layout import Partition
from connectors.windows import Coverage, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One data store's part of a catalog.

    Attributes:
        watermark: End of the first covered stretch; None where nothing is covered.
        followed_to: Changes are merged up to here; None where nothing was ever synced.
        coverage: All that is covered.
        gaps: What lies between the covered stretches.
        rows: Image sets in the table.
        bytes: Of the data objects.
        partitions: Data objects.
        runs: The newest run reports, newest first.
    """

    datastore_id: str
    watermark: datetime | None
    followed_to: datetime | None
    coverage: Coverage
    gaps: Coverage
    rows: int
    bytes: int
    partitions: int
    runs: list[dict[str, Any]]


def summarize(catalog: Catalog, datastore_id: str, *, runs: int) -> Summary:
    """The numbers of one data store.

    Args:
        catalog: The catalog.
        datastore_id: The data store.
        runs: How many run reports, at most.

    Raises:
        StateError: The checkpoint or a data object is damaged.
    """
    checkpoint = catalog.checkpoint(datastore_id)
    coverage = checkpoint.coverage if checkpoint else Coverage()
    partitions = catalog.partitions(datastore_id)
    return Summary(
        datastore_id=datastore_id,
        watermark=coverage.watermark,
        followed_to=checkpoint.followed_to if checkpoint else None,
        coverage=coverage,
        gaps=_gaps(coverage),
        rows=_count_rows(catalog, partitions),
        bytes=sum(entry.size for entry in partitions.values()),
        partitions=len(partitions),
        runs=list(catalog.runs(datastore_id, runs)),
    )


def _gaps(coverage: Coverage) -> Coverage:
    if not coverage:
        return coverage
    whole = Window(coverage.windows[0].start, coverage.windows[-1].end)
    return Coverage([whole]).minus(coverage)


def _count_rows(catalog: Catalog, partitions: dict[Partition, Any]) -> int:
    # Counted from the objects' footers; no column is read.
    rows: int = open_dataset(catalog, sorted(partition.key for partition in partitions)).count_rows()
    return rows
