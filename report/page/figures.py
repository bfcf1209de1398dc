"""What the page shows of a data store: for each plot its title, what it says in words, and the table behind it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from markupsafe import Markup

from ahi_catalog.connectors.windows import Coverage
from ahi_catalog.report import DatastoreReport
from ahi_catalog.report.arrivals import Bin, Span
from ahi_catalog.report.groups import Group, Stored
from ahi_catalog.report.history import RunRecord
from ahi_catalog.report.page import charts

_FULL, _HALF, _NARROW = 920, 440, 300
_HIDDEN: Final = "not shown"
_DAY: Final = timedelta(days=1)
_UNITS: Final = ((_DAY, "days"), (timedelta(hours=1), "hours"), (timedelta(minutes=1), "minutes"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text under a head; the first column names the row."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Plot:
    """SVG for a wide and for a narrow window, ready to stand in the page."""

    wide: Markup
    narrow: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One plot.

    Attributes:
        title: Its heading.
        says: What it shows, in a sentence, for everyone and for screen readers.
        plot: Drawn for a wide and for a narrow window.
        table: The same numbers.
        is_full: Whether it takes the whole width of the page.
    """

    title: str
    says: str
    plot: Plot
    table: Table
    is_full: bool = False


def figures(report: DatastoreReport) -> tuple[Figure, ...]:
    """The plots of a data store, in the order of the page; those without anything to show are left out."""
    found = [*_arrivals(report)]
    if report.totals.image_sets != 0:
        found += [
            _hours(report.by_hour, report.zone),
            _tiers(report.by_tier),
            *([_idle(report.idle)] if report.idle else []),
            _groups("Modalities", "Image sets by modality", "modality", report.by_modality, report),
            _groups("Body parts", "Image sets by body part examined", "body part", report.by_body_part, report),
            *([] if report.totals.stored is None else _costs(report)),
        ]
    return tuple(found)


def run_figures(report: DatastoreReport) -> tuple[Figure, ...]:
    """The plots of the sync history; none where no run is known."""
    # Reading metadata moves no watermark.
    lagging = [run for run in report.runs if run.flow != "metadata"]
    lags = (_lags(lagging),) if lagging else ()
    measured = (_freshness(lagging),) if any(run.published_after for run in lagging) else ()
    return (*lags, *measured, _requests(report.runs)) if report.runs else ()


def _draw(chart: Callable[[int], str], *, full: bool = False) -> Plot:
    # Vega escapes what it writes into the SVG.
    return Plot(Markup(chart(_FULL if full else _HALF)), Markup(chart(_NARROW)))  # noqa: S704


def _arrivals(report: DatastoreReport) -> list[Figure]:
    over_time = report.arrivals
    if over_time is None:
        return []
    found = [_timeline(f"Image sets a {over_time.span}", over_time.bins, report.gaps, over_time.span)]
    if any(each.image_sets != 0 for each in over_time.days) or _has_gap(over_time.days, report.gaps):
        found.append(_timeline("Image sets a day, lately", over_time.days, report.gaps, Span.DAY))
    return found


def _has_gap(bins: Sequence[Bin], gaps: Coverage) -> bool:
    return bool(bins and gaps) and gaps.windows[-1].end.date() >= bins[0].start


def _timeline(title: str, bins: Sequence[Bin], gaps: Coverage, span: Span) -> Figure:
    shown = [each.image_sets for each in bins if each.image_sets]
    peak = max((each for each in bins if each.image_sets), key=lambda each: each.image_sets or 0, default=None)
    says = f"By time of creation in the data store (UTC), {bins[0].start} to {bins[-1].end - _DAY}. "
    if peak:
        when = f"on {peak.start}" if span is Span.DAY else f"in the {span} from {peak.start}"
        says += f"Most {when}: {peak.image_sets:,}. "
    says += f"{len(shown)} of {len(bins)} {span}s have image sets to show."
    if gaps:
        says += " Hatched: not covered by any sync yet."
    says += _pale(each.image_sets for each in bins)
    rows = tuple((str(each.start), _number(each.image_sets)) for each in bins if each.image_sets != 0)
    return Figure(
        title=title,
        says=says,
        plot=_draw(lambda width: charts.timeline(bins, gaps, width), full=True),
        table=Table(head=(f"{span} from", "image sets"), rows=rows),
        is_full=True,
    )


def _hours(groups: Sequence[Group], zone: str) -> Figure:
    return Figure(
        title="Arrivals by hour",
        says=f"Image sets by the hour of the day in which they were created ({zone})."
        + _pale(each.image_sets for each in groups),
        plot=_draw(lambda width: charts.hours(groups, zone, width), full=True),
        is_full=True,
        table=Table(
            head=(f"hour, {zone}", "image sets"),
            rows=tuple((f"{int(group.label):02d}:00", _number(group.image_sets)) for group in groups),
        ),
    )


def _groups(title: str, says: str, what: str, groups: Sequence[Group], report: DatastoreReport) -> Figure:
    head = (what, "image sets", *(("studies", "patients") if report.tells_patients else ()))
    rows = tuple(
        (group.label, *map(_number, (group.image_sets, group.studies, group.patients)))[: len(head)] for group in groups
    )
    return Figure(
        title=title,
        says=f"{says}, largest first.",
        plot=_draw(lambda width: charts.bars(_counts(groups), width)),
        table=Table(head=head, rows=rows),
    )


def _tiers(groups: Sequence[Group]) -> Figure:
    named = [Group(label=_tier(each.label), image_sets=each.image_sets) for each in groups]
    return Figure(
        title="Storage tiers",
        says="Image sets by storage tier. A gigabyte in frequent access costs a multiple of one in archive.",
        plot=_draw(lambda width: charts.bars(_counts(named), width)),
        table=Table(head=("tier", "image sets"), rows=tuple((each.label, _number(each.image_sets)) for each in named)),
    )


def _tier(label: str) -> str:
    return label.replace("_", " ").capitalize() or "none given"


def _idle(groups: Sequence[Group]) -> Figure:
    return Figure(
        title="Idle image sets",
        says=(
            "Image sets in frequent access, by the time since they were last accessed. After 30 days without a touch "
            "the service moves them to archive by itself: those idle for longer have moved since the catalog read "
            "them, or were touched in another way."
        ),
        plot=_draw(lambda width: charts.bars(_counts(groups), width)),
        table=Table(
            head=("last accessed", "image sets"), rows=tuple((each.label, _number(each.image_sets)) for each in groups)
        ),
    )


def _costs(report: DatastoreReport) -> list[Figure]:
    """What storage costs, and what the archive would save."""
    tiers = [replace(each, label=_tier(each.label)) for each in report.by_tier]
    least = "Each image set is billed as 5 MB at least; one whose metadata was not read counts as 5 MB."
    found = [
        _cost("Cost of storage by tier", f"Dollars a month, and gigabytes. {least}", "tier", tiers),
        _cost("Cost of storage by modality", "Dollars a month, and gigabytes.", "modality", report.by_modality),
        _cost("Cost of storage by age", "Dollars a month, by the time since creation.", "created", report.by_age),
    ]
    if report.idle:
        told = sum(each.stored.saves for each in report.idle[1:] if each.stored)
        says = (
            f"Dollars a month that image sets in frequent access would cost less in archive, by the time since they "
            f"were last accessed. Those idle for 30 days and more: {_dollars(told)} a month. The service moves them by "
            "itself, so most of these have moved since the catalog read them."
        )
        rows = [(each.label, each.stored.saves if each.stored else None) for each in report.idle]
        found.append(
            Figure(
                title="What archiving would save",
                says=says,
                plot=_draw(lambda width: charts.bars([charts.Bar(n, v or 0, _dollars(v)) for n, v in rows], width)),
                table=Table(head=("last accessed", "dollars a month"), rows=tuple((n, _dollars(v)) for n, v in rows)),
            )
        )
    return found


def _cost(title: str, says: str, what: str, groups: Sequence[Group]) -> Figure:
    def text(stored: Stored | None) -> str:
        if stored is None:
            return _HIDDEN
        return f"{_dollars(stored.dollars)}, {_gigabytes(stored.gigabytes)}" if stored.gigabytes else "none"

    bars = [charts.Bar(each.label, each.stored.dollars if each.stored else 0, text(each.stored)) for each in groups]
    rows = tuple(
        (
            each.label,
            _number(each.image_sets),
            *((f"{its.gigabytes:,.2f}", f"{its.dollars:,.2f}") if its else [_HIDDEN] * 2),
        )
        for each in groups
        for its in [each.stored]
    )
    head = (what, "image sets", "GB as billed", "dollars a month")
    return Figure(
        title=title, says=says, plot=_draw(lambda width: charts.bars(bars, width)), table=Table(head=head, rows=rows)
    )


def _counts(groups: Sequence[Group]) -> list[charts.Bar]:
    return [charts.Bar(each.label, each.image_sets or 0, _number(each.image_sets)) for each in groups]


def _lags(runs: Sequence[RunRecord]) -> Figure:
    longest = max((run.lag for run in runs if run.lag is not None), default=timedelta())
    unit, name = next((found for found in _UNITS if longest >= 3 * found[0]), _UNITS[-1])
    return Figure(
        title=f"Lag after each run, {name}",
        says="From the watermark, up to which everything is covered, to the end of the run. "
        "Pale: the run was stopped or failed.",
        plot=_draw(lambda width: charts.lags(runs, unit, width)),
        table=Table(
            head=("run", "started (UTC)", "flow", "outcome", "seconds", f"lag, {name}"),
            rows=tuple(
                (
                    str(place),
                    f"{run.started_at:%Y-%m-%d %H:%M}",
                    run.flow,
                    run.outcome,
                    f"{run.seconds:,.1f}",
                    "none covered" if run.lag is None else f"{run.lag / unit:,.1f}",
                )
                for place, run in enumerate(runs, 1)
            ),
        ),
    )


def _freshness(runs: Sequence[RunRecord]) -> Figure:
    longest = max((run.published_after[1] for run in runs if run.published_after), default=timedelta())
    unit, name = next((found for found in _UNITS if longest >= 3 * found[0]), (timedelta(seconds=1), "seconds"))
    return Figure(
        title=f"From creation until published, {name}",
        says="The time within which 95 of 100 new image sets were in the catalog, run by run; the marks are the median "
        "and 99 of 100. Runs with fewer than 11 are left out.",
        plot=_draw(lambda width: charts.freshness(runs, unit, width)),
        table=Table(
            head=("run", "median", "95 of 100", "99 of 100"),
            rows=tuple(
                (str(place), *(f"{value / unit:,.1f}" for value in run.published_after))
                for place, run in enumerate(runs, 1)
                if run.published_after
            ),
        ),
    )


def _requests(runs: Sequence[RunRecord]) -> Figure:
    asked, repeated = sum(run.requests for run in runs), sum(run.throttles + run.retries for run in runs)
    return Figure(
        title="Requests a run",
        says=f"{asked:,} requests; on top, in another colour, the {repeated:,} that were throttled or tried again.",
        plot=_draw(lambda width: charts.requests(runs, width)),
        table=Table(
            head=("run", "requests", "throttled", "tried again", "rows changed"),
            rows=tuple(
                (str(place), f"{run.requests:,}", f"{run.throttles:,}", f"{run.retries:,}", run.changed)
                for place, run in enumerate(runs, 1)
            ),
        ),
    )


def _pale(counts: Iterable[int | None]) -> str:
    return " Pale: too few to show." if None in counts else ""


def _dollars(value: float | None) -> str:
    if value is None:
        return _HIDDEN
    if 0 < value < 0.01:  # noqa: PLR2004  # a cent
        return "under $0.01"
    return f"${value:,.2f}" if 0 < value < 100 else f"${value:,.0f}"  # noqa: PLR2004  # cents


def _gigabytes(value: float) -> str:
    return f"{value / 1024:,.1f} TB" if value >= 1024 else f"{value:,.1f} GB"  # noqa: PLR2004  # a terabyte


def _number(count: int | None) -> str:
    return _HIDDEN if count is None else f"{count:,}"
