"""What becomes of what a reading finds: it is published, or compared."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Protocol

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


class Publisher:
    """Publishes: for syncs and backfills.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._populated: list[Window] = []

    @property
    def populated(self) -> Coverage:
        """The partitions that are known to have an object, since a batch of theirs was published."""
        return Coverage(tuple(self._populated))

    def phase(self, by: Field) -> str:
        """What is being done."""
        return "reading image sets" if by is Field.CREATED_AT else "following changes"

    def write(self, batch: Batch) -> Published:
        """Merge a batch into its partition."""
        if self._run.deleted:
            # The search may list an image set for a while after the service has confirmed that it is deleted.
            batch = replace(batch, deleted=self._run.deleted)
        published = publish(self._run.catalog.store, batch, self._run.confirm_deleted)
        if self._run.awaited:
            self._run.awaited.difference_update(batch.rows["image_set_id"].to_pylist())
        if published.is_populated:
            self._populated.append(batch.partition.window)
        return published

    def count(self, written: Published) -> None:
        """Count the rows of a batch."""
        self._run.report.count_published(written)

    def commit(self, windows: Collection[Window]) -> None:
        """Add the windows to the checkpoint's coverage."""
        self._run.checkpointer.commit(windows, self.populated)
