"""Image sets by the time of their creation: a day each, or a week or month each over long ranges."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Final

from ahi_catalog.report.facts import Facts
from ahi_catalog.report.suppression import to_hide

_DAY: Final = timedelta(days=1)
_MOST_DAYS: Final = 92
_MOST_WEEKS: Final = 104
_RECENT: Final = timedelta(days=89)


class Span(StrEnum):
    """How long the bins are."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Bin:
    """Image sets created from one day to another, ``[start, end)``, in UTC; None: too few to show."""

    start: date
    end: date
    image_sets: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Image sets over time.

    Attributes:
        span: Of one bin.
        bins: From the first day to the last, without a hole.
        days: The last 90 days or a little more, a day each; empty where `bins` are days already.
    """

    span: Span
    bins: tuple[Bin, ...]
    days: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class _Counted:
    image_sets: int
    patients: int


def arrivals(facts: Facts, first: date, last: date) -> Arrivals:
    """Image sets over time, small bins hidden.

    The days of a hidden bin are hidden too, and in each bin no single day is: it would follow from the bin.

    Args:
        facts: Of the data store.
        first: The first day to show.
        last: The last day to show, included.
    """
    span = _span(first, last)
    edges = list(_edges(span, first, last))
    counted = _count(facts, span)
    bins = _bins(edges, counted, to_hide([_patients(counted, start) for start, _ in edges], spare_last=True))
    if span is Span.DAY:
        return Arrivals(span=span, bins=bins, days=())
    by_day = _count(facts, Span.DAY)
    recent = [found for found in bins if found.end > last - _RECENT]
    days = tuple(day for found in recent for day in _days(found, by_day, last))
    return Arrivals(span=span, bins=bins, days=days)


def _days(around: Bin, counted: Mapping[date, _Counted], last: date) -> tuple[Bin, ...]:
    edges = list(_edges(Span.DAY, around.start, min(around.end - _DAY, last)))
    sizes = [_patients(counted, start) for start, _ in edges]
    if around.image_sets is None:
        return _bins(edges, counted, frozenset(place for place, size in enumerate(sizes) if size))
    return _bins(edges, counted, to_hide(sizes, spare_last=True))


def _bins(
    edges: Sequence[tuple[date, date]], counted: Mapping[date, _Counted], hidden: frozenset[int]
) -> tuple[Bin, ...]:
    nothing = _Counted(0, 0)
    return tuple(
        Bin(start, end, None if place in hidden else counted.get(start, nothing).image_sets)
        for place, (start, end) in enumerate(edges)
    )


def _patients(counted: Mapping[date, _Counted], start: date) -> int:
    return counted[start].patients if start in counted else 0


def _count(facts: Facts, span: Span) -> dict[date, _Counted]:
    rows = facts.rows(
        f"select date_trunc('{span}', created)::date, count(*), count(distinct patient) from facts group by 1"  # noqa: S608  # the span is ours
    )
    return {start: _Counted(image_sets, patients) for start, image_sets, patients in rows}


def _span(first: date, last: date) -> Span:
    days = (last - first).days + 1
    if days <= _MOST_DAYS:
        return Span.DAY
    return Span.WEEK if days <= _MOST_WEEKS * 7 else Span.MONTH


def _edges(span: Span, first: date, last: date) -> Iterator[tuple[date, date]]:
    start = _floor(span, first)
    while start <= last:
        end = _floor(span, start + {Span.DAY: _DAY, Span.WEEK: 7 * _DAY, Span.MONTH: 31 * _DAY}[span])
        yield start, end
        start = end


def _floor(span: Span, day: date) -> date:
    if span is Span.MONTH:
        return day.replace(day=1)
    return day - day.weekday() * _DAY if span is Span.WEEK else day
