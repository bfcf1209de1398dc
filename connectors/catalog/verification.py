"""How far a verification is and what it has found, kept so that it can go on when interrupted. Pure: JSON and back.

Counts by partition and kind, never an id of an image set.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from ahi_catalog.connectors.catalog.checkpoint import format_windows, parse_state, parse_windows
from ahi_catalog.connectors.catalog.heartbeat import RUNNING, is_silent
from ahi_catalog.connectors.catalog.layout import window_of
from ahi_catalog.connectors.errors import DamagedError, Remedy
from ahi_catalog.connectors.windows import NOWHERE, Coverage, Window, format_time, parse_time

FORMAT: Final = 1


class Finding(StrEnum):
    """What can be wrong: rows, but for the last three, which count files.

    The values are the words of verification.json, the run reports and the output for machines, which keep their form.
    """

    MISSING = "missing"
    STALE = "stale"
    ALTERED = "altered"
    DUPLICATE = "doubled"
    DELETED = "gone"
    UNREADABLE = "unreadable"
    LOST = "lost"
    UNEXPECTED = "foreign"


def outcome_in_words(outcome: str, unrepaired: int) -> str:
    """How a run ended, as people read it: ``differs`` where a verification left something unrepaired."""
    return "differs" if unrepaired and outcome == "done" else outcome


def outcome_told(report: Mapping[str, Any], now: datetime) -> str:
    """The same, of a run report as it is kept; ``running``, or ``killed`` where it is one that goes on no more.

    Args:
        report: As it is kept.
        now: Aware.
    """
    if report["outcome"] == RUNNING:
        return "killed" if is_silent(parse_time(report["under_way"]["beat_at"]), now) else RUNNING
    left = (report.get("verification") or {}).get("left", 0) or len(report.get("lost") or ())
    return outcome_in_words(report["outcome"], left)


def repair_of(ranges: Coverage | None, remedy: Remedy = Remedy.REPAIR) -> str:
    """What would help, in words.

    Args:
        ranges: What is to be repaired: ranges of createdAt, of whole days. None: everything.
        remedy: Where it takes more than the usual one.
    """
    if not ranges:
        return str(remedy)
    return f"{remedy} from {ranges.windows[0].start:%Y-%m-%d} to {ranges.windows[-1].end:%Y-%m-%d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """One pass over a data store's part of the catalog, finished or under way.

    Attributes:
        run_id: The run that is at it, or was last.
        asked: What was asked for, as text; another question begins a new pass.
        started_at: Of the pass; aware UTC.
        finished_at: None while there is something left.
        is_repairing: Whether what is found is repaired.
        windows: What is to be verified.
        verified: What of it has been.
        is_inspected: Whether the objects themselves have been looked at.
        seed: Names the sample of metadata that is read again; empty: none is.
        sampled: Ranges of the partitions whose sample was compared; None: the tables of metadata were not compared
            with `image_sets` yet.
        findings: What was found, by the value of the partition (behind a table's name and a blank, where it is not of
            `image_sets`), or the name of another file.
    """

    run_id: str
    asked: str
    started_at: datetime
    finished_at: datetime | None = None
    is_repairing: bool
    windows: Coverage
    verified: Coverage = NOWHERE
    is_inspected: bool = False
    seed: str = ""
    sampled: Coverage | None = None
    findings: dict[str, Counter[Finding]] = field(default_factory=dict)

    @property
    def remaining(self) -> Coverage:
        """What is still to be verified."""
        return self.windows.minus(self.verified)

    def verifying(self, windows: Iterable[Window]) -> "Verification":
        """With more windows verified."""
        return replace(self, verified=self.verified.union(windows))

    def reading_again(self, windows: Iterable[Window]) -> "Verification":
        """With windows that are to be verified once more."""
        return replace(self, verified=self.verified.minus(windows))

    def noting(self, found: Iterable[tuple[str, Counter[Finding]]]) -> "Verification":
        """With more findings."""
        findings = {name: Counter(counts) for name, counts in self.findings.items()}
        for name, counts in found:
            if counts:
                findings.setdefault(name, Counter()).update(counts)
        return replace(self, findings=findings)

    @property
    def totals(self) -> Counter[Finding]:
        """How often what was found in all."""
        return sum(self.findings.values(), Counter[Finding]())

    @property
    def unrepaired(self) -> int:
        """How many of the findings are not repaired: files of others are never removed."""
        return self.totals[Finding.UNEXPECTED] if self.is_repairing else self.totals.total()

    @property
    def is_repairable(self) -> bool:
        """Whether a repair would help against what is left."""
        return self.unrepaired > self.totals[Finding.UNEXPECTED]

    @property
    def places(self) -> Coverage | None:
        """The ranges of the partitions in which something is wrong; None where it is the checkpoint."""
        wrong = [place for place, counts in self.findings.items() if set(counts) - {Finding.UNEXPECTED}]
        windows = [window_of(place.rpartition(" ")[2]) for place in wrong]
        return None if None in windows else Coverage(window for window in windows if window)


def encode(verification: Verification) -> bytes:
    """The verification as JSON."""
    document = {
        "format": FORMAT,
        "run_id": verification.run_id,
        "asked": verification.asked,
        "started_at": format_time(verification.started_at),
        "finished_at": format_time(verification.finished_at) if verification.finished_at else None,
        "repairing": verification.is_repairing,
        "windows": format_windows(verification.windows),
        "verified": format_windows(verification.verified),
        "inspected": verification.is_inspected,
        "seed": verification.seed,
        "sampled": None if verification.sampled is None else format_windows(verification.sampled),
        "findings": {value: dict(counts) for value, counts in sorted(verification.findings.items())},
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def decode(body: bytes) -> Verification:
    """The verification that was kept.

    Raises:
        DamagedError: The bytes are none.
        StateError: They are of a later format.
    """
    remedy = Remedy.RESTART_VERIFY
    document: dict[str, Any] = parse_state(body, "the state of the last verification", FORMAT, remedy=remedy)
    if not isinstance(document.get("asked"), str):
        raise DamagedError("the state of the last verification is damaged", remedy=remedy)
    try:
        return Verification(
            run_id=document["run_id"],
            asked=document["asked"],
            started_at=parse_time(document["started_at"]),
            finished_at=parse_time(document["finished_at"]) if document["finished_at"] else None,
            is_repairing=document["repairing"],
            windows=parse_windows(document["windows"]),
            verified=parse_windows(document["verified"]),
            is_inspected=document["inspected"],
            # Earlier versions keep neither.
            seed=document.get("seed", ""),
            sampled=parse_windows(document["sampled"]) if document.get("sampled") is not None else None,
            findings={
                value: Counter({Finding(kind): int(count) for kind, count in counts.items()})
                for value, counts in document["findings"].items()
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DamagedError("the state of the last verification is damaged", remedy=Remedy.RESTART_VERIFY) from None
