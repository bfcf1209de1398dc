"""What becomes of what a reading finds: it is published, or compared."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Protocol

import pyarrow.compute as pc

from ahi_catalog.connectors.catalog import Batch, Published, publish
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.pipeline.run import Run


class Sink(Protocol):
    """Takes what scans have found out, partition by partition."""

    def phase(self, by: Field) -> str:
        """What is being done, in a few words, while image sets are read by a time."""
        ...

    def write(self, batch: Batch) -> Any:
        """Deal with a batch; called from several threads. What it returns is handed to `count`."""
        ...

    def count(self, written: Any) -> None:
        """Note in the run report what a batch came to; called from the thread that runs the run."""
        ...

    def commit(self, windows: Collection[Window]) -> None:
        """Write down ranges whose every row has been written; one call at a time."""
        ...


class Following(Sink, Protocol):
    """A sink that follows changes too."""

    def measure(self, *, since: datetime) -> None:
        """Count how fresh new rows are whose image sets were created at or after a moment.

        What is older was left over by an interrupted run, or was there before the catalog.
        """
        ...

    def follow(self, to: datetime, kept: Coverage) -> None:
        """Write down how far changes are written, in the ranges of createdAt that were kept."""
        ...


class Publisher:
    """Publishes: for syncs and backfills.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._populated: list[Window] = []
        self._measured_since: datetime | None = None

    @property
    def populated(self) -> Coverage:
        """The partitions that are known to have an object, since a batch of theirs was published."""
        return Coverage(tuple(self._populated))

    def measure(self, *, since: datetime) -> None:
        """Count how fresh those rows are in the run report."""
        self._measured_since = since

    def phase(self, by: Field) -> str:
        """What is being done."""
        return "reading image sets" if by is Field.CREATED_AT else "following changes"

    def write(self, batch: Batch) -> Published:
        """Merge a batch into its partition."""
        published = publish(self._run.catalog.store, batch, self._run.confirm_deleted)
        if published.is_populated:
            self._populated.append(batch.partition.window)
        return published

    def count(self, written: Published) -> None:
        """Count the rows of a batch."""
        self._run.report.count_published(written)
        if (since := self._measured_since) is not None:
            now, young = self._run.clock(), pc.greater_equal(written.created, since)
            created = written.created.filter(young).to_pylist()
            self._run.report.freshness.add((now - each).total_seconds() for each in created)

    def commit(self, windows: Collection[Window]) -> None:
        """Add the windows to the checkpoint's coverage."""
        self._run.checkpointer.commit(windows, self.populated)

    def follow(self, to: datetime, kept: Coverage) -> None:
        """Write it down in the checkpoint."""
        self._run.checkpointer.follow(to, self.populated, kept)
