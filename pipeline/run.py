"""What every part of one run shares."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ahi_catalog.connectors.catalog import Catalog, Checkpoint
from ahi_catalog.connectors.errors import StateError, StoppedError
from ahi_catalog.connectors.healthimaging.source import Source, Tally
from ahi_catalog.connectors.windows import Coverage, Window, floor_second
from ahi_catalog.pipeline.handing_back import HandingBack
from ahi_catalog.pipeline.observers import Observer, Progress
from ahi_catalog.pipeline.run_report import RunReport
from ahi_catalog.pipeline.runners import Runner, ScanWindow
from ahi_catalog.pipeline.scan_scheduler import Scans
from ahi_catalog.schemas import Protect


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run on one data store.

    Attributes:
        catalog: What to write to.
        datastore_id: The data store.
        source: What to read from.
        runner: Where scans run.
        scan_window: Scans one window; its rows are under the catalog's PHI policy.
        protect: Puts rows that come another way under that policy.
        report: Filled in as the run goes on, by the thread that runs it.
        observer: Watches.
        is_stopping: Whether the run was asked to stop.
        workers: Scans side by side.
        buffer_bytes: Of rows held before partitions are published early.
        room: How many more scans side by side would make the run faster.
        scans: The scans under way; None: they are out of reach, on a cluster.
        handing_back: Asks scans whose rows come out of order for their windows, one for each worker with nothing to do.
        settle: How old an image set must be before it is taken as searchable.
        served_at: The service's clock when scans began.
    """

    catalog: Catalog
    datastore_id: str
    source: Source
    runner: Runner
    scan_window: ScanWindow
    protect: Protect
    report: RunReport
    observer: Observer
    is_stopping: Callable[[], bool]
    workers: int
    buffer_bytes: int
    room: Callable[[], int]
    scans: Scans | None
    handing_back: HandingBack
    settle: timedelta
    served_at: list[datetime] = field(default_factory=list)
    confirmations: list[Tally] = field(default_factory=list)

    @property
    def _settled_to(self) -> datetime:
        """What is older had settled when the run began to read, by the service's clock; the local one may be fast."""
        return floor_second(min(self.served_at) - self.settle)

    def confirm_gone(self, image_set_ids: Collection[str]) -> list[str]:
        """Of image sets that a scan should have found, those that the service confirms deleted.

        When the run is stopping, those not yet asked about count as still there.
        """
        tally = Tally()
        gone: list[str] = []
        try:
            gone.extend(found for found in image_set_ids if self.source.look_up(found, tally) is None)
        except StoppedError:
            pass  # Those left stay in the catalog; a later read of their range asks again.
        finally:
            self.confirmations.append(tally)
        return gone

    def cover(self, windows: Collection[Window], populated: Coverage) -> None:
        """Extend the checkpoint's coverage by windows whose rows are published, as far as they had settled.

        Args:
            windows: Ranges of createdAt.
            populated: Partitions that are known to have an object.
        """
        settled = Coverage(windows).before(self._settled_to)
        checkpoint = self.catalog.update_checkpoint(
            self.datastore_id, lambda found: _existing(found).covering(settled, populated)
        )
        self.report.watermark_after = checkpoint.coverage.watermark

    def uncover(self, windows: Collection[Window]) -> None:
        """Take windows whose rows are lost out of the checkpoint's coverage, so that they are read again."""
        if windows:
            self.catalog.update_checkpoint(self.datastore_id, lambda found: _existing(found).uncovering(windows))

    def follow(self, to: datetime, populated: Coverage) -> None:
        """Write down how far changes are followed and published, as far as they had settled."""
        settled = min(to, self._settled_to)
        checkpoint = self.catalog.update_checkpoint(
            self.datastore_id, lambda found: _existing(found).following(settled).covering((), populated)
        )
        self.report.followed_to = checkpoint.followed_to

    def progressed(self, phase: str, seconds_done: int, seconds_total: int) -> None:
        """Tell the observer how far the run is."""
        self.observer.progressed(
            Progress(
                datastore_id=self.datastore_id,
                phase=phase,
                seconds_done=seconds_done,
                seconds_total=seconds_total,
                rows=self.report.rows_read,
                requests=self.report.tally.requests,
            )
        )


def _existing(checkpoint: Checkpoint | None) -> Checkpoint:
    if checkpoint is None:
        raise StateError("the checkpoint was deleted while the run was going on; run again")
    return checkpoint
