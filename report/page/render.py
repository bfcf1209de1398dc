"""Counts into one HTML file: no script, no link to anything outside, nothing that a browser would fetch."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import jinja2

from ahi_catalog.report import DatastoreReport
from ahi_catalog.report.page.figures import Figure, figures, run_figures
from ahi_catalog.report.suppression import SMALLEST

_TIME: Final = "%Y-%m-%d %H:%M UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One data store on the page."""

    report: DatastoreReport
    tiles: tuple[tuple[str, str, str], ...]
    figures: tuple[Figure, ...]
    run_figures: tuple[Figure, ...]


def render(url: str, reports: Sequence[DatastoreReport], *, version: str, now: datetime) -> str:
    """The page, in UTF-8 when it is written.

    Args:
        url: Of the catalog.
        reports: Its data stores.
        version: Of ahi-catalog.
        now: Aware; stands on the page as its time.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ahi_catalog.report.page", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = _count
    environment.filters["moment"] = _moment
    sections = [
        Section(report=report, tiles=_tiles(report), figures=figures(report), run_figures=run_figures(report))
        for report in reports
    ]
    page = environment.get_template("page.html")
    return page.render(url=url, sections=sections, version=version, now=now, smallest=SMALLEST)


def _tiles(report: DatastoreReport) -> tuple[tuple[str, str, str], ...]:
    """The numbers at the top: label, value, and a word on it."""
    runs = report.runs
    requests, throttles = sum(run.requests for run in runs), sum(run.throttles for run in runs)
    return (
        ("Image sets", _count(report.totals.image_sets), f"{report.data_bytes / 1e6:,.1f} MB of Parquet"),
        *_identified(report),
        *_stored(report),
        ("Covered up to", _day(report.watermark), f"{_clock(report.watermark)}, the watermark"),
        ("Gaps in coverage", f"{len(report.gaps.windows):,}" if report.gaps else "none", "before the last sync's end"),
        ("Changes followed to", _day(report.followed_to), _clock(report.followed_to)),
        ("Last run", runs[-1].outcome if runs else "none", _moment(runs[-1].started_at) if runs else ""),
        (
            "Requests",
            f"{requests:,}",
            f"of {len(runs):,} {'run' if len(runs) == 1 else 'runs'}; {throttles:,} throttled",
        ),
    )


def _identified(report: DatastoreReport) -> tuple[tuple[str, str, str], ...]:
    if not report.tells_patients:
        return tuple((what, "not kept", f"PHI policy: {report.phi}") for what in ("Studies", "Patients"))
    return (
        ("Studies", _count(report.totals.studies), "by Study Instance UID"),
        ("Patients", _count(report.totals.patients), "by Patient ID"),
    )


def _stored(report: DatastoreReport) -> tuple[tuple[str, str, str], ...]:
    if (stored := report.totals.stored) is None or not report.totals.image_sets:
        return ()
    least = " at least: not all metadata is read" if stored.read < report.totals.image_sets else ", as it is billed"
    return (("Storage", f"${stored.dollars:,.2f} a month", f"{stored.gigabytes:,.1f} GB{least}"),)


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else "never"


def _clock(moment: datetime | None) -> str:
    return f"{moment:%H:%M} UTC" if moment else "nothing yet"


def _count(value: int | None) -> str:
    return "not shown" if value is None else f"{value:,}"


def _moment(value: datetime) -> str:
    return f"{value:{_TIME}}"
