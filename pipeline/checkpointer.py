"""The checkpoint of a run: coverage is committed after the rows that prove it, and only as far as they had settled."""

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timedelta

from ahi_catalog.connectors.catalog import Catalog, Checkpoint
from ahi_catalog.connectors.errors import StateError
from ahi_catalog.connectors.windows import Coverage, Window, floor_second
from ahi_catalog.pipeline.run_report import RunReport

_log = logging.getLogger(__name__)


class Checkpointer:
    """Writes the checkpoint of one data store, and notes in the run report how far it is.

    Args:
        catalog: The catalog.
        settle: How old an image set must be before it is taken as searchable.
        report: Of the run.
    """

    def __init__(self, catalog: Catalog, settle: timedelta, report: RunReport) -> None:
        self._catalog = catalog
        self._settle = settle
        self._report = report
        self._upper: datetime | None = None
        self.served_at: datetime | None = None
        """The service's clock when the run began to read; aware UTC. None: nothing was read yet."""

    def note_clock(self, served_at: datetime | None) -> None:
        """Take note of the service's clock when a scan began; the local one may be fast."""
        if served_at is not None:
            self.served_at = min(self.served_at or served_at, served_at)

    def open(
        self, upper: datetime, *, start: datetime | None = None, datastore_created_at: datetime | None = None
    ) -> Checkpoint:
        """The checkpoint, made by the first run; what is read from now on is covered up to the upper bound at most.

        A new one is followed to this run's upper bound: every row is read after that moment, so it shows all changes
        before it, and a run that resumes days later follows those since.

        Args:
            upper: The run's upper bound, aware UTC.
            start: Where a sync is told to begin; aware UTC on a whole second.
            datastore_created_at: When the data store was created, if that is known.

        Raises:
            UsageError: Syncs of this data store begin elsewhere.
        """
        self._upper, self.served_at = upper, None
        fresh = Checkpoint(datastore_id=self._report.datastore_id, coverage=Coverage(), followed_to=upper)
        checkpoint = self._catalog.update_checkpoint(
            self._report.datastore_id, lambda found: (found or fresh).beginning(start).created(datastore_created_at)
        )
        self._report.watermark_after = checkpoint.watermark
        self._report.watermark_before = self._report.watermark_before or self._report.watermark_after
        self._report.followed_to = checkpoint.followed_to
        return checkpoint

    def commit(self, windows: Collection[Window], populated: Coverage) -> None:
        """Add windows to the coverage whose rows are published, as far as they had settled.

        A run beside this one that followed changes left out those in windows that were not covered yet. So changes
        are to be followed again from where this run began to read.

        Args:
            windows: Ranges of createdAt.
            populated: Partitions that are known to have an object.
        """
        began_at = self._settled_to()
        settled = Coverage(windows).before(began_at)

        def cover(found: Checkpoint) -> Checkpoint:
            is_gaining = bool(settled.minus(found.coverage))
            since = min(found.followed_to, began_at) if is_gaining else found.followed_to
            return replace(found.with_coverage(settled, populated), followed_to=since)

        checkpoint = self._update(cover)
        self._report.watermark_after = checkpoint.watermark

    def remove(self, windows: Collection[Window]) -> None:
        """Take windows whose rows are lost out of the coverage, so that they are read again."""
        if windows:
            self._update(lambda found: found.without_coverage(windows))

    def follow(self, to: datetime, populated: Coverage, covered: Coverage) -> None:
        """Write down how far changes are followed and published, as far as they had settled.

        Args:
            to: An updatedAt, aware UTC.
            populated: Partitions that are known to have an object.
            covered: Where changes were published. What a run beside this one has covered since had its changes left
                out, so the next run follows them once more.
        """
        settled = min(to, self._settled_to())

        def move(found: Checkpoint) -> Checkpoint:
            reached = found.followed_to if found.coverage.minus(covered) else settled
            return found.following(reached).with_coverage((), populated)

        checkpoint = self._update(move)
        self._report.followed_to = checkpoint.followed_to

    def _settled_to(self) -> datetime:
        """What is older had settled when the run began to read, by the earlier of the two clocks."""
        if self.served_at is None:
            raise StateError("the service told no time")
        settled = floor_second(self.served_at - self._settle)
        return settled if self._upper is None else min(settled, self._upper)

    def _update(self, change: Callable[[Checkpoint], Checkpoint]) -> Checkpoint:
        report, met = self._report, set(self._report.unknown_fields)

        def change_existing(found: Checkpoint | None) -> Checkpoint:
            if found is None:
                raise StateError("the checkpoint was deleted while the run was going on; run again")
            drift.update(met - set(found.unknown_fields))
            return change(found).meeting(met, floor_second(report.started_at))

        drift: set[str] = set()
        checkpoint = self._catalog.update_checkpoint(report.datastore_id, change_existing)
        if news := drift - report.drift:
            report.drift |= news
            _log.warning(
                "the service sends fields that this version does not know: %s; a later one may have columns for them",
                ", ".join(sorted(news)),
            )
        return checkpoint
