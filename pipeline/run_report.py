"""The run report: what a run read, wrote and proved. Counts and times, never rows."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from ahi_catalog.connectors.catalog import Published
from ahi_catalog.connectors.catalog.checkpoint import format_windows
from ahi_catalog.connectors.catalog.freshness import Freshness
from ahi_catalog.connectors.catalog.verification import Verification, outcome_in_words, repair_of
from ahi_catalog.connectors.errors import Remedy
from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.metadata import Left
from ahi_catalog.connectors.healthimaging.scan import ScanResult
from ahi_catalog.connectors.windows import NOWHERE, Coverage, format_time
from ahi_catalog.pipeline.verify import findings


class Outcome(StrEnum):
    """How a run ended."""

    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(slots=True)
class MetadataCounts:
    """Image sets whose metadata a run did not read, and of a verify those that it compared.

    Attributes:
        compared: Read again, and compared with what the catalog has of them.
        left: By the reason, and by partition as of the last time that it was looked at.
        keeps: What the catalog keeps of metadata, as `kept` names it.
    """

    compared: int = 0
    keeps: list[str] = field(default_factory=list)
    left: Mapping[Left, Counter[str]] = field(default_factory=lambda: {why: Counter() for why in Left})

    def begin(self, partition: str, archived: int) -> None:
        """A partition is looked at, for the first time or again; so many of its image sets are left in the archive."""
        for counts in self.left.values():
            counts.pop(partition, None)
        self.count(partition, {Left.ARCHIVED: archived} if archived else {})

    def count(self, partition: str, left: Mapping[Left, int]) -> None:
        """Some image sets of a partition were left out."""
        for why, count in left.items():
            self.left[why][partition] += count

    def total(self, why: Left) -> int:
        """How many were left out for a reason."""
        return self.left[why].total()

    def table(self) -> list[tuple[str, str]]:
        """What was left out, as people read it."""
        malformed = sorted(self.left[Left.MALFORMED].items())
        return [
            ("archived or idle, not read", f"{self.total(Left.ARCHIVED):,}"),
            ("gone or changed meanwhile", f"{self.total(Left.GONE):,}"),
            ("not consistent yet", f"{self.total(Left.NOT_READY):,}"),
            ("metadata not of its form", ", ".join(f"{each} {count:,}" for each, count in malformed) or "none"),
        ]

    def document(self) -> dict[str, Any]:
        """The counts as JSON goes."""
        return {
            "compared": self.compared,
            "archived": self.total(Left.ARCHIVED),
            "gone": self.total(Left.GONE),
            "not_ready": self.total(Left.NOT_READY),
            "malformed": dict(sorted(self.left[Left.MALFORMED].items())),
            "keeps": self.keeps,
        }


@dataclass(slots=True, kw_only=True)
class EventCounts:
    """Deliveries of the queue of events; a message that comes again counts again.

    Attributes:
        received: Events of the data stores that are read.
        foreign: Events of others. They stay on the queue, for whoever reads those, or for its dead-letter queue.
        malformed: Messages without an event of HealthImaging's; they are left to the dead-letter queue.
        failures: Requests in vain: the queue refused, or could not be reached.
    """

    received: int = 0
    foreign: int = 0
    malformed: int = 0
    failures: int = 0

    def add(self, other: "EventCounts") -> None:
        """Count the other's deliveries here too."""
        self.received += other.received
        self.foreign += other.foreign
        self.malformed += other.malformed
        self.failures += other.failures


@dataclass(slots=True, kw_only=True)
class RunReport:
    """What a run did, filled in as it goes on.

    Attributes:
        flow: ``sync``, ``backfill``, ``verify``, ``watch`` or ``metadata``.
        run_id: Names the run among those of the data store.
        started_at: Aware UTC.
        seconds: How long it took.
        windows: Scans made.
        rows_read: Image sets in the ranges read; those of overlapping reads count again.
        new, updated, unchanged, removed: What publishing them came to; of a verify, what it repaired.
        unparsable: Values sent that their column cannot hold, by column.
        unknown_fields: In how many rows read the service sent which field that the declaration does not know.
        drift: Those of them that no run before had met.
        watermark_before, watermark_after: End of the first covered stretch.
        followed_to: How far changes are followed.
        lost: Ranges of partitions that had an object and have none; a sync or a backfill leaves them so.
        verification: Of a verify, what it found.
        freshness: From createdAt until published, of the new rows of a sync or a watch.
        passes, failed_passes: Of a watch.
        events: Of the process's queue, as far as no other run of it has counted them.
        metadata: Of a reading of metadata, what it left out; None: none was read.
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
    lost: Coverage = NOWHERE
    verification: Verification | None = None
    freshness: Freshness = field(default_factory=Freshness)
    passes: int = 0
    failed_passes: int = 0
    events: EventCounts = field(default_factory=EventCounts)
    metadata: MetadataCounts | None = None

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
        """Differences that a verification found and did not repair; of another run, ranges whose rows are lost."""
        return self.verification.unrepaired if self.verification else len(self.lost.windows)

    @property
    def difference(self) -> str | None:
        """Those in one line, with what helps; None where there are none."""
        if not self.unrepaired:
            return None
        if self.verification is None:
            return f"data objects are lost, of {', '.join(map(str, self.lost))}; {repair_of(self.lost)}"
        advice = "files that are none of the catalog's are yours to delete"
        if self.verification.is_repairable:
            remedy = Remedy.REPAIR_METADATA if self.verification.seed else Remedy.REPAIR
            advice = repair_of(self.verification.places, remedy)
        return f"{self.unrepaired:,} differences between catalog and service; {advice}"

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
        values = asdict(replace(self, verification=None, freshness=Freshness(), lost=NOWHERE, metadata=None))
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
            "freshness": self.freshness.document(),
            "lost": format_windows(self.lost),
            "verification": self.verification and findings.document(self.verification),
            "metadata": self.metadata and self.metadata.document(),
        }

    def table(self) -> list[tuple[str, str]]:
        """The report as people read it: a label and a value a line."""
        if self.verification is not None:
            return self._verification_table(self.verification)
        if self.metadata is not None:
            return self._metadata_table(self.metadata)
        document = self.document()
        return [
            ("outcome", outcome_in_words(document["outcome"], self.unrepaired)),
            *([("data objects lost", ", ".join(map(str, self.lost)))] if self.lost else []),
            ("image sets read", f"{self.rows_read:,}"),
            ("rows new", f"{self.new:,}"),
            ("rows updated", f"{self.updated:,}"),
            ("rows unchanged", f"{self.unchanged:,}"),
            ("rows removed", f"{self.removed:,}"),
            ("partitions written", f"{self.partitions_written:,} ({self.bytes_written / 1e6:,.1f} MB)"),
            ("published after", str(self.freshness)),
            ("unparsable values", _counted(document["unparsable"])),
            ("unknown fields", _counted(document["unknown_fields"])),
            *([("passes, failed", f"{self.passes:,}, {self.failed_passes:,}")] if self.passes else []),
            *([("events", self._events_in_words())] if self.events != EventCounts() else []),
            ("windows", f"{self.windows:,}"),
            ("requests", f"{self.counts.requests:,}"),
            ("throttled, retried", f"{self.counts.throttles:,}, {self.counts.retries:,}"),
            ("watermark before", document["watermark_before"] or "none"),
            ("watermark after", document["watermark_after"] or "none"),
            ("changes followed to", document["followed_to"] or "none"),
            ("seconds", f"{self.seconds:,.1f}"),
        ]

    def _events_in_words(self) -> str:
        rest = {name: count for name, count in asdict(self.events).items() if count and name != "received"}
        return ", ".join([f"{self.events.received:,}", *(f"{count:,} {name}" for name, count in rest.items())])

    def _metadata_table(self, left: MetadataCounts) -> list[tuple[str, str]]:
        return [
            ("outcome", str(self.outcome)),
            ("image sets read", f"{self.rows_read:,}"),
            *left.table(),
            ("rows new", f"{self.new:,}"),
            ("rows updated", f"{self.updated:,}"),
            ("rows removed", f"{self.removed:,}"),
            ("partitions written", f"{self.partitions_written:,} ({self.bytes_written / 1e6:,.1f} MB)"),
            ("requests", f"{self.counts.requests:,}"),
            ("throttled, retried", f"{self.counts.throttles:,}, {self.counts.retries:,}"),
            ("seconds", f"{self.seconds:,.1f}"),
        ]

    def _verification_table(self, verification: Verification) -> list[tuple[str, str]]:
        again = [("metadata compared", f"{self.metadata.compared:,}"), *self.metadata.table()] if self.metadata else []
        return [
            ("outcome", outcome_in_words(str(self.outcome), self.unrepaired)),
            ("image sets compared", f"{self.rows_read:,}"),
            *again,
            ("found", findings.in_words(verification)),
            ("in how many places", f"{len(verification.findings):,}"),
            ("left to mend", f"{verification.unrepaired:,}"),
            *self._repaired(verification),
            ("partitions written", f"{self.partitions_written:,} ({self.bytes_written / 1e6:,.1f} MB)"),
            ("still to verify", "nothing" if verification.finished_at else "run again to go on"),
            ("requests", f"{self.counts.requests:,}"),
            ("throttled, retried", f"{self.counts.throttles:,}, {self.counts.retries:,}"),
            ("seconds", f"{self.seconds:,.1f}"),
        ]

    def _repaired(self, verification: Verification) -> list[tuple[str, str]]:
        counts = {"rows added": self.new, "rows renewed": self.updated, "rows removed": self.removed}
        return [(what, f"{count:,}") for what, count in counts.items()] if verification.is_repairing else []


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
