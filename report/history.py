"""What the run reports tell: how often, how fast, how far behind. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from ahi_catalog.connectors.catalog.freshness import Freshness
from ahi_catalog.connectors.catalog.heartbeat import RUNNING
from ahi_catalog.connectors.catalog.verification import outcome_told
from ahi_catalog.connectors.windows import parse_time
from ahi_catalog.report.suppression import SMALLEST

_CLASSES: Final = (
    (0, "none"),
    (10, "1 to 10"),
    (100, "11 to 100"),
    (1_000, "101 to 1,000"),
    (10_000, "1,001 to 10,000"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One run, as it is shown.

    Attributes:
        flow: As in its report.
        outcome: In words (`outcome_told`).
        started_at: Aware UTC.
        seconds: How long it took.
        requests, throttles, retries: What it asked of the service.
        changed: Rows new, updated or removed, as a class: the exact counts of hourly runs would tell how many
            patients came, and undo what is hidden elsewhere.
        lag: From the watermark to the run's end; None where nothing was covered then.
        published_after: The median, and what 95 and 99 of a hundred new rows kept within, from their createdAt; None
            where there were fewer than are shown.
    """

    flow: str
    outcome: str
    started_at: datetime
    seconds: float
    requests: int
    throttles: int
    retries: int
    changed: str
    lag: timedelta | None
    published_after: tuple[timedelta, ...] | None


def history(reports: Iterable[Mapping[str, Any]], now: datetime) -> tuple[RunRecord, ...]:
    """The runs that have ended, or were killed, oldest first.

    Args:
        reports: Run reports, in any order.
        now: Aware.
    """
    records = (_record(report, now) for report in reports)
    ended = (record for record in records if record.outcome != RUNNING)
    return tuple(sorted(ended, key=lambda record: record.started_at))


def _record(report: Mapping[str, Any], now: datetime) -> RunRecord:
    started_at = parse_time(report["started_at"])
    watermark = report.get("watermark_after")
    ended_at = started_at + timedelta(seconds=report["seconds"])
    return RunRecord(
        flow=str(report["flow"]),
        outcome=outcome_told(report, now),
        started_at=started_at,
        seconds=report["seconds"],
        requests=report["requests"],
        throttles=report["throttles"],
        retries=report["retries"],
        changed=_class(report["new"] + report["updated"] + report["removed"]),
        lag=ended_at - parse_time(watermark) if watermark else None,
        published_after=_published_after(Freshness.parse(report.get("freshness"))),
    )


def _published_after(freshness: Freshness) -> tuple[timedelta, ...] | None:
    if len(freshness) < SMALLEST:
        return None
    return tuple(timedelta(seconds=freshness.quantile(share) or 0) for share in (0.5, 0.95, 0.99))


def _class(count: int) -> str:
    return next((name for most, name in _CLASSES if count <= most), "over 10,000")
