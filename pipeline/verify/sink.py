"""The sink of a verification: compares what scans found with the catalog, and repairs the difference if asked to.

Nothing is removed on the search's word: rows that it does not list are looked up one by one.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from ahi_catalog.connectors.catalog import Batch, Partition, parquet
from ahi_catalog.connectors.catalog.merge import merge, without
from ahi_catalog.connectors.catalog.publishing import MERGING, note_removals, read_object
from ahi_catalog.connectors.catalog.verification import Finding, Verification
from ahi_catalog.connectors.errors import DamagedError
from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.healthimaging.source import ImageSet
from ahi_catalog.connectors.retrying import retry_on_conflict
from ahi_catalog.connectors.storage import Stored
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.pipeline.run import Run
from ahi_catalog.pipeline.verify.comparison import Comparison, compare
from ahi_catalog.pipeline.verify.inspection import belonging


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What comparing a batch came to.

    Attributes:
        batch: The batch.
        findings: What was wrong with its partition, as far as it was scanned.
        bytes_written: Of the object, where it was repaired.
        is_populated: Whether the partition has an object now.
    """

    batch: Batch
    findings: Counter[Finding]
    bytes_written: int
    is_populated: bool


class Verifier:
    """Verifies, and keeps how far it is.

    Args:
        run: The run.
        verification: Where it begins.
        followed_to: Changes before this moment are to be in the catalog; aware UTC.
    """

    def __init__(self, run: Run, verification: Verification, followed_to: datetime) -> None:
        self.verification = verification
        self.damaged: set[Partition] = set()
        """Partitions whose object a repair could not read: it was damaged after the inspection."""
        self._run = run
        self._followed_to = followed_to
        self._found: dict[Window, tuple[str, Counter[Finding]]] = {}
        self._populated: list[Window] = []

    def phase(self, by: Field) -> str:
        """What is being done."""
        del by
        return "mending the catalog" if self.verification.is_repairing else "verifying the catalog"

    def write(self, batch: Batch) -> Checked:
        """Compare a batch with its partition; repair that if asked to.

        Raises:
            DamagedError: The partition's object cannot be read, and is to be repaired; it is among `damaged`.
        """
        return retry_on_conflict(self._take_once, batch, _LookUps(self._run))

    def count(self, written: Checked) -> None:
        """Note what was found; it counts when its range does."""
        first = written.batch.scanned.windows[0]
        self._found[first] = (written.batch.partition.value, written.findings)
        if written.bytes_written:
            self._run.report.new += written.findings[Finding.MISSING]
            self._run.report.updated += written.findings[Finding.STALE] + written.findings[Finding.ALTERED]
            self._run.report.removed += written.findings[Finding.DUPLICATE] + written.findings[Finding.DELETED]
        self._run.report.partitions_written += bool(written.bytes_written)
        self._run.report.bytes_written += written.bytes_written
        if written.is_populated:
            self._populated.append(written.batch.partition.window)

    def commit(self, windows: Collection[Window]) -> None:
        """Keep how far the verification is; what it has repaired is covered."""
        if self.verification.is_repairing:
            self._run.checkpointer.commit(windows, Coverage(tuple(self._populated)))
        found = [self._found.pop(window) for window in windows if window in self._found]
        self.keep(self.verification.verifying(windows).noting(found))

    def keep(self, verification: Verification) -> None:
        """Go on from another state of the verification."""
        self.verification = verification
        self._run.catalog.keep_verification(self._run.datastore_id, verification)

    def _take_once(self, batch: Batch, look_ups: "_LookUps") -> Checked:
        stored = self._run.catalog.store.get(batch.key)
        with MERGING:
            difference = compare(batch.table, self._rows(stored, batch), batch.rows, batch.scanned, self._followed_to)
        # Neither the lock nor the rows are held while the service is asked.
        deleted, elsewhere = look_ups.sort_out(difference.unlisted, batch.partition.window)
        false = look_ups.falsely_ahead(difference.ahead)
        findings = _count(difference, deleted, elsewhere, false)
        written = 0
        if self.verification.is_repairing and findings:
            if deleted:
                note_removals(self._run.catalog.store, batch.partition, self._rows(stored, batch), deleted)
            with MERGING:
                right = without(self._rows(stored, batch), false)
                merged = merge(batch.table, right, batch.rows, [*deleted, *elsewhere])
                del right  # before the result is encoded
                body = parquet.encode(batch.table, merged.rows)
            self._run.catalog.store.put(batch.key, body, expected=stored.etag if stored else None)
            written = len(body)
        return Checked(
            batch=batch, findings=findings, bytes_written=written, is_populated=stored is not None or written > 0
        )

    def _rows(self, stored: Stored | None, batch: Batch) -> pa.Table:
        """The rows of an object that belong there; what does not has been counted by the inspection."""
        try:
            rows = read_object(batch.table, batch.key, stored)
        except DamagedError:
            if self.verification.is_repairing:
                self.damaged.add(batch.partition)
                raise
            # All that the service has is missing there.
            rows = batch.table.schema.empty_table()
        return belonging(batch.table, rows, batch.partition)


def _count(
    difference: Comparison, deleted: Collection[str], elsewhere: Collection[str], false: Collection[str]
) -> Counter[Finding]:
    counts = {
        Finding.MISSING: len(difference.missing),
        Finding.STALE: len(difference.stale),
        Finding.ALTERED: len(difference.altered) + len(false),
        Finding.DUPLICATE: len(elsewhere),
        Finding.DELETED: len(deleted),
    }
    return Counter({kind: count for kind, count in counts.items() if count})


class _LookUps:
    """What GetImageSet says of image sets that a comparison leaves in doubt, each asked about once.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._known: dict[str, ImageSet | None] = {}

    def sort_out(self, unlisted: Collection[str], bounds: Window) -> tuple[list[str], list[str]]:
        """Of image sets that the search did not list: those that are deleted, and those created outside of the bounds.

        The others are there, and only the search does not show them: their rows are right.
        """
        answers = self._ask(unlisted)
        deleted = [name for name, found in answers.items() if found is None]
        elsewhere = [
            name
            for name, found in answers.items()
            if found and found.created_at and not bounds.start <= found.created_at < bounds.end
        ]
        return deleted, elsewhere

    def falsely_ahead(self, ahead: Mapping[str, int]) -> list[str]:
        """Of image sets whose row is newer than the search says, those of a version that the service does not know."""
        return [name for name, found in self._ask(ahead).items() if found and ahead[name] > found.version]

    def _ask(self, image_set_ids: Collection[str]) -> dict[str, ImageSet | None]:
        counts = RequestCounts()
        try:
            for name in image_set_ids:
                if name not in self._known:
                    self._known[name] = self._run.source.look_up(name, counts)
        finally:
            self._run.look_ups.append(counts)
        return {name: self._known[name] for name in image_set_ids}
