"""The sink of a verification: compares what scans found with the catalog, and mends the difference if asked to.

Nothing is removed on the search's word: rows that it does not list are looked up one by one.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from ahi_catalog.connectors.catalog import Batch, parquet
from ahi_catalog.connectors.catalog.comparison import Belonging, Comparison, compare
from ahi_catalog.connectors.catalog.merge import merge
from ahi_catalog.connectors.catalog.publishing import in_turn, named
from ahi_catalog.connectors.catalog.stretches import NO_ROWS, Stretches
from ahi_catalog.connectors.catalog.verification import Finding, Verification
from ahi_catalog.connectors.errors import DamagedError
from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.healthimaging.source import ImageSet, Tally
from ahi_catalog.connectors.retrying import retry_on_conflict
from ahi_catalog.connectors.storage import Stored
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.pipeline.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What comparing a batch came to.

    Attributes:
        batch: The batch.
        findings: What was wrong with its partition, as far as it was scanned.
        bytes_written: Of the object, where it was mended.
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
        self._run = run
        self._followed_to = followed_to
        self._found: dict[Window, tuple[str, Counter[Finding]]] = {}
        self._populated: list[Window] = []

    def phase(self, by: Field) -> str:
        """What is being done."""
        del by
        return "mending the catalog" if self.verification.is_repairing else "verifying the catalog"

    def take(self, batch: Batch) -> Checked:
        """Compare a batch with its partition; mend that if asked to."""
        return retry_on_conflict(self._take_once, batch, _LookUps(self._run))

    def count(self, taken: Checked) -> None:
        """Note what was found; it counts when its range does."""
        first = taken.batch.scanned.windows[0]
        self._found[first] = (taken.batch.partition.value, taken.findings)
        self._run.report.partitions_written += bool(taken.bytes_written)
        self._run.report.bytes_written += taken.bytes_written
        if taken.is_populated:
            self._populated.append(taken.batch.partition.window)

    def cover(self, windows: Collection[Window]) -> None:
        """Keep how far the verification is; what it has mended is covered."""
        if self.verification.is_repairing:
            self._run.cover(windows, Coverage(tuple(self._populated)))
        found = [self._found.pop(window) for window in windows if window in self._found]
        self.keep(self.verification.verifying(windows).noting(found))

    def keep(self, verification: Verification) -> None:
        """Go on from another state of the verification."""
        self.verification = verification
        self._run.catalog.keep_verification(self._run.datastore_id, verification)

    def _take_once(self, batch: Batch, look_ups: "_LookUps") -> Checked:
        store, key = self._run.catalog.store, batch.partition.key
        with in_turn(store, key) as stored:
            return self._check(batch, stored, look_ups)

    def _check(self, batch: Batch, stored: Stored | None, look_ups: "_LookUps") -> Checked:
        key = batch.partition.key
        try:
            with named(key):
                rows: Stretches = parquet.DataObject(stored.body) if stored else NO_ROWS
                difference = self._compare(rows, batch)
        except DamagedError:
            if self.verification.is_repairing:
                raise
            # The inspection has counted the object; all that the service has is missing there.
            rows = NO_ROWS
            difference = self._compare(rows, batch)
        gone, elsewhere = look_ups.sort_out(difference.unlisted, batch.partition.window)
        false = look_ups.falsely_ahead(difference.ahead)
        findings = _count(difference, gone, elsewhere, false)
        written = 0
        if self.verification.is_repairing and findings:
            right = Belonging(rows, batch.partition, false)
            with named(key):
                body = parquet.encode(merge(right, batch.rows, [*gone, *elsewhere]).rows)
            self._run.catalog.store.put(key, body, expected=stored.etag if stored else None)
            written = len(body)
        return Checked(
            batch=batch, findings=findings, bytes_written=written, is_populated=stored is not None or written > 0
        )

    def _compare(self, rows: Stretches, batch: Batch) -> Comparison:
        # What does not belong there has been counted by the inspection.
        return compare(Belonging(rows, batch.partition), batch.rows, batch.scanned, self._followed_to)


def _count(
    difference: Comparison, gone: Collection[str], elsewhere: Collection[str], false: Collection[str]
) -> Counter[Finding]:
    counts = {
        Finding.MISSING: len(difference.missing),
        Finding.STALE: len(difference.stale),
        Finding.ALTERED: len(difference.altered) + len(false),
        Finding.DOUBLED: len(elsewhere),
        Finding.GONE: len(gone),
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
        """Of image sets that the search did not list: those that are gone, and those created outside of the bounds.

        The others are there, and only the search does not show them: their rows are right.
        """
        answers = self._ask(unlisted)
        gone = [name for name, found in answers.items() if found is None]
        elsewhere = [
            name
            for name, found in answers.items()
            if found and found.created_at and not bounds.start <= found.created_at < bounds.end
        ]
        return gone, elsewhere

    def falsely_ahead(self, ahead: Mapping[str, int]) -> list[str]:
        """Of image sets whose row is newer than the search says, those of a version that the service does not know."""
        return [name for name, found in self._ask(ahead).items() if found and ahead[name] > found.version]

    def _ask(self, image_set_ids: Collection[str]) -> dict[str, ImageSet | None]:
        tally = Tally()
        try:
            for name in image_set_ids:
                if name not in self._known:
                    self._known[name] = self._run.source.look_up(name, tally)
        finally:
            self._run.confirmations.append(tally)
        return {name: self._known[name] for name in image_set_ids}
