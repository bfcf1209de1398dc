"""The run report: what a run read, wrote and proved. Counts and times, never rows."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from ahi_catalog.connectors.catalog import Published
from ahi_catalog.connectors.catalog.verification import Verification, outcome_in_words
from ahi_catalog.connectors.errors import Remedy
from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.scan import ScanResult
from ahi_catalog.connectors.windows import format_time
from ahi_catalog.pipeline.verify import findings


class Outcome(StrEnum):
    """How a run ended."""

    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(slots=True, kw_only=True)
class RunReport:
    """What a run did, filled in as it goes on.

    Attributes:
        flow: ``sync`` or ``backfill``.
        run_id: Names the run among those of the data store.
        started_at: Aware UTC.
        seconds: How long it took.
        windows: Scans made.
        rows_read: Image sets in the ranges read; those of overlapping reads count again.
        new, updated, unchanged, removed: What publishing them came to.
        unparsable: Values sent that their column cannot hold, by column.
        unknown_fields: In how many rows read the service sent which field that the declaration does not know.
        drift: Those of them that no run before had met.
        watermark_before, watermark_after: End of the first covered stretch.
        followed_to: How far changes are followed.
        verification: Of a verify, what it found.
    """

    flow: str
    run_id: str
    datastore_id: str
    started_at: datetime
    outcome: Outcome = Outcome.DONE
    seconds: float = 0.0
    windows: int = 0
    counts: RequestCounts = field(default_factory=RequestCounts)
    rows_read: int = 0
    new: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    partitions_written: int = 0
    bytes_written: int = 0
    unparsable: Counter[str] = field(default_factory=Counter)
    unknown_fields: Counter[str] = field(default_factory=Counter)
    drift: set[str] = field(default_factory=set)
    watermark_before: datetime | None = None
    watermark_after: datetime | None = None
    followed_to: datetime | None = None
    verification: Verification | None = None

    def count_scan(self, scan: ScanResult) -> None:
        """A scan has ended."""
        self.windows += 1
        self.counts.add(scan.counts)
        self.count_rows(len(scan.rows), scan.unparsable, scan.unknown_fields)

    def count_rows(self, rows: int, unparsable: Mapping[str, int], unknown_fields: Mapping[str, int]) -> None:
        """Rows have been read, with so many values by column that it cannot hold, and so many fields unknown."""
        self.rows_read += rows
        self.unparsable.update(unparsable)
        self.unknown_fields.update(unknown_fields)

    def count_published(self, published: Published) -> None:
        """A partition has been published."""
        self.new += published.new
        self.updated += published.updated
        self.unchanged += published.unchanged
        self.removed += published.removed
        self.partitions_written += bool(published.bytes_written)
        self.bytes_written += published.bytes_written

    @property
    def unrepaired(self) -> int:
        """Differences between catalog and service that a verification found and did not repair."""
        return self.verification.unrepaired if self.verification else 0

    @property
    def difference(self) -> str | None:
        """Those in one line, with what helps; None where there are none."""
        if not self.unrepaired:
            return None
        return f"{self.unrepaired:,} differences between catalog and service; {Remedy.REPAIR}"

    @property
    def summary(self) -> str:
        """What was done, in one line."""
        if self.verification is None:
            changed = self.new + self.updated + self.removed
            return f"{self.rows_read:,} image sets read, {changed:,} rows changed"
        scope = findings.scope_in_words(self.verification)
        if not self.verification.windows:
            return f"nothing to compare: the catalog holds nothing of {scope or 'this data store'}"
        days = math.ceil(sum((each.end - each.start) / timedelta(days=1) for each in self.verification.windows))
        of = f" ({scope})" if scope else ""
        return f"{self.rows_read:,} image sets of {days:,} days{of} compared: {findings.in_words(self.verification)}"

    def document(self) -> dict[str, Any]:
        """The report as JSON goes: for `_state/…/runs` and for machines."""
        values = asdict(replace(self, verification=None))
        counts = values.pop("counts")
        times = ("started_at", "watermark_before", "watermark_after", "followed_to")
        return {
            "format": 1,
            **values,
            **counts,
            "outcome": str(self.outcome),
            "seconds": round(self.seconds, 3),
            "unparsable": dict(sorted(self.unparsable.items())),
            "unknown_fields": dict(sorted(self.unknown_fields.items())),
            "drift": sorted(self.drift),
            **{name: format_time(values[name]) if values[name] else None for name in times},
            "verification": self.verification and findings.document(self.verification),
        }

    def table(self) -> list[tuple[str, str]]:
        """The report as people read it: a label and a value a line."""
        if self.verification is not None:
            return self._verification_table(self.verification)
        document = self.document()
        return [
            ("outcome", document["outcome"]),
            ("image sets read", f"{self.rows_read:,}"),
            ("rows new", f"{self.new:,}"),
            ("rows updated", f"{self.updated:,}"),
            ("rows unchanged", f"{self.unchanged:,}"),
            ("rows removed", f"{self.removed:,}"),
            ("partitions written", f"{self.partitions_written:,} ({self.bytes_written / 1e6:,.1f} MB)"),
            ("unparsable values", _counted(document["unparsable"])),
            ("unknown fields", _counted(document["unknown_fields"])),
            ("windows", f"{self.windows:,}"),
            ("requests", f"{self.counts.requests:,}"),
            ("throttled, retried", f"{self.counts.throttles:,}, {self.counts.retries:,}"),
            ("watermark before", document["watermark_before"] or "none"),
            ("watermark after", document["watermark_after"] or "none"),
            ("changes followed to", document["followed_to"] or "none"),
            ("seconds", f"{self.seconds:,.1f}"),
        ]

    def _verification_table(self, verification: Verification) -> list[tuple[str, str]]:
        return [
            ("outcome", outcome_in_words(str(self.outcome), self.unrepaired)),
            ("image sets compared", f"{self.rows_read:,}"),
            ("found", findings.in_words(verification)),
            ("in how many places", f"{len(verification.findings):,}"),
            ("left to mend", f"{verification.unrepaired:,}"),
            ("partitions written", f"{self.partitions_written:,} ({self.bytes_written / 1e6:,.1f} MB)"),
            ("still to verify", "nothing" if verification.finished_at else "run again to go on"),
            ("requests", f"{self.counts.requests:,}"),
            ("throttled, retried", f"{self.counts.throttles:,}, {self.counts.retries:,}"),
            ("seconds", f"{self.seconds:,.1f}"),
        ]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"


def summary_table(runs: Iterable[tuple[str, Outcome, RunReport | None]]) -> tuple[list[str], list[list[str]]]:
    """Several runs as a table of 80 columns: the columns, and a row for each.

    Args:
        runs: A data store, how its run ended, and its report; None where it had not begun.
    """
    known = list(runs)
    verifies = any(report and report.verification for _, _, report in known)
    rows = []
    for datastore_id, outcome, report in known:
        row = [datastore_id, outcome_in_words(str(outcome), report.unrepaired if report else 0)]
        if report is not None:
            found = report.verification.totals.total() if report.verification else 0
            counts = [found, report.unrepaired] if verifies else [report.new + report.updated + report.removed]
            row += [*(f"{number:,}" for number in (report.rows_read, *counts)), f"{report.seconds:,.1f}"]
        rows.append(row)
    return ["data store", "outcome", "read", *(["found", "left"] if verifies else ["rows changed"]), "seconds"], rows
