"""Counts as static SVG: Vega-Altair describes the plots, vl-convert draws them, without a browser or a network.

Colours are variables of the page's style sheet, so that the same plot serves light, dark and print. A group that
is too small to show gets a short pale mark of fixed size. Pure: the same counts give the same text.
"""

import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

import altair as alt

from ahi_catalog.connectors.windows import Coverage, to_epoch_microseconds
from ahi_catalog.report.arrivals import Bin
from ahi_catalog.report.groups import Group
from ahi_catalog.report.history import RunRecord

_MARK, _PALE, _WARN, _INK, _LINE = (f"var(--{name})" for name in ("mark", "pale", "warn", "ink", "line"))
_HATCH: Final = "url(#hatch)"
_HEIGHT: Final = 170
_BAR: Final = 22
_LETTER, _CAPITAL = 6.8, 8.6
_GAP, _SHORTEST = 10, 40
_DATES: Final = 5
_STUB: Final = 5
"""Pixels of the mark that stands for a hidden group."""


class Bar(NamedTuple):
    """A bar: what it is of, how long it is, and what stands beside it."""

    label: str
    value: float
    text: str


def bars(several: Sequence[Bar], width: int) -> str:
    """Horizontal bars, each with its number."""
    rows = [bar._asdict() for bar in several]
    most = max((bar.value for bar in several), default=0) or 1
    # Fonts differ: room for the widest label in a wide one, and for the text beside the longest bar.
    extent = min(width // 2, max((_width_of(bar.label) for bar in several), default=0))
    room = width - extent
    beside = max((_width_of(bar.text) for bar in several), default=0) + _GAP
    scale = alt.Scale(domain=[0, most * room / max(room - beside, _SHORTEST)], nice=False)
    base = _chart(rows).encode(
        y=alt.Y(
            "label:N",
            sort=None,
            title=None,
            axis=alt.Axis(domain=False, ticks=False, minExtent=extent, maxExtent=extent, labelLimit=width // 2),
        ),
        x=alt.X("value:Q", scale=scale, axis=None),
    )
    text = base.mark_text(align="left", dx=4, color=_INK).encode(text="text:N")
    return _svg(base.mark_bar(color=_MARK) + text, width, _BAR * max(len(rows), 1))


def hours(groups: Sequence[Group], zone: str, width: int) -> str:
    """Upright bars, one an hour of the day in a zone."""
    rows = [{"label": group.label, "count": group.image_sets} for group in groups]
    axis = alt.Axis(labelAngle=0, values=[str(hour) for hour in range(0, 24, 3)], ticks=False)
    base = _chart(rows).encode(
        x=alt.X("label:O", title=f"hour, {zone}", axis=axis, scale=alt.Scale(domain=[row["label"] for row in rows]))
    )
    return _svg(_shown(base) + _hidden(base), width)


def timeline(bins: Sequence[Bin], gaps: Coverage, width: int) -> str:
    """Upright bars, one a bin of time; hatched where nothing is covered."""
    rows = [{"start": _epoch(each.start), "end": _epoch(each.end), "count": each.image_sets} for each in bins]
    first, last = _epoch(bins[0].start), _epoch(bins[-1].end)
    # A gap of seconds still has to be seen.
    least = (last - first) // 150
    holes = [
        {"start": start, "end": min(max(_epoch(gap.end), start + least), last)}
        for gap in gaps
        if first <= (start := _epoch(gap.start)) < last
    ]
    x = alt.X(
        "start:T",
        title=None,
        scale=alt.Scale(type="utc", nice=False, domain=[first, last]),
        axis=alt.Axis(tickCount=max(2, width // 110), grid=False, labelOverlap=True, labelFlush=True),
    )
    base = _chart(rows).encode(x=x, x2="end:T")
    empty = _chart(holes).mark_rect(fill=_HATCH, stroke=_WARN, strokeWidth=1)
    return _svg(empty.encode(x=x, x2="end:T") + _shown(base) + _hidden(base), width)


def requests(runs: Sequence[RunRecord], width: int) -> str:
    """Upright bars, one a run: requests answered, and on top those throttled or tried again."""
    rows = [
        {"run": place, "kind": kind, "count": count, "color": color}
        for place, run in enumerate(runs, 1)
        for kind, count, color in (
            ("1 answered", run.requests - run.throttles - run.retries, _MARK),
            ("2 repeated", run.throttles + run.retries, _WARN),
        )
    ]
    chart = (
        _chart(rows)
        .mark_bar()
        .encode(
            x=_by_run(runs),
            y=alt.Y("count:Q", title=None, axis=_counts()),
            order="kind:N",
            color=alt.Color("color:N", scale=None),
        )
    )
    return _svg(chart, width)


def lags(runs: Sequence[RunRecord], unit: timedelta, width: int) -> str:
    """Upright bars, one a run: units of time from the watermark to the run's end; pale where a run did not end well."""
    rows = [
        {"run": place, "lag": run.lag / unit, "color": _MARK if run.outcome in ("done", "differs") else _PALE}
        for place, run in enumerate(runs, 1)
        if run.lag is not None
    ]
    chart = (
        _chart(rows)
        .mark_bar()
        .encode(
            x=_by_run(runs),
            y=alt.Y("lag:Q", title=None, axis=alt.Axis(format=",.2~f", tickCount=4, domain=False, ticks=False)),
            color=alt.Color("color:N", scale=None),
        )
    )
    return _svg(chart, width)


def freshness(runs: Sequence[RunRecord], unit: timedelta, width: int) -> str:
    """Upright bars, one a run: within which time 95 of 100 new rows were published; marks for the median and for 99."""
    rows = [
        {"run": place, "median": median / unit, "most": most / unit, "last": last / unit}
        for place, run in enumerate(runs, 1)
        if run.published_after is not None
        for median, most, last in [run.published_after]
    ]
    axis = alt.Axis(format=",.2~f", tickCount=4, domain=False, ticks=False)
    base = _chart(rows).encode(x=_by_run(runs))
    bars = base.mark_bar(color=_MARK).encode(y=alt.Y("most:Q", title=None, axis=axis))
    marks = [
        base.mark_tick(color=color, thickness=2).encode(y=f"{name}:Q")
        for name, color in (("median", _INK), ("last", _WARN))
    ]
    return _svg(alt.layer(bars, *marks), width)


def _epoch(moment: date) -> int:
    """Milliseconds since 1970, as Vega counts time; a date is its midnight in UTC."""
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return to_epoch_microseconds(moment) // 1000


def _width_of(label: str) -> int:
    return round(sum(_CAPITAL if letter.isupper() else _LETTER for letter in label))


def _chart(rows: Sequence[Mapping[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=rows))


def _by_run(runs: Sequence[RunRecord]) -> alt.X:
    shown = [*range(1, len(runs) + 1, -(-len(runs) // _DATES))] if runs else []
    # A label is two lines: the day, and the time.
    labels = {place: [f"{runs[place - 1].started_at:{form}}" for form in ("%m-%d", "%H:%M")] for place in shown}
    axis = alt.Axis(labelAngle=0, values=shown, ticks=False, labelExpr=f"({json.dumps(labels)})[datum.value]")
    places = [*range(1, max(len(runs), 8) + 1)]
    return alt.X("run:O", title="start of the run, UTC", axis=axis, scale=alt.Scale(domain=places))


def _counts() -> alt.Axis:
    return alt.Axis(labelExpr="format(datum.value, '~s')", tickCount=4, domain=False, ticks=False)


def _shown(base: alt.Chart) -> alt.Chart:
    chart: alt.Chart = base.mark_bar(color=_MARK, binSpacing=0.5).encode(
        y=alt.Y("count:Q", title=None, axis=_counts(), scale=alt.Scale(zero=True)), y2=alt.datum(0)
    )
    return chart


def _hidden(base: alt.Chart) -> alt.Chart:
    stub = base.transform_filter("datum.count === null").mark_bar(color=_PALE, binSpacing=0.5)
    chart: alt.Chart = stub.encode(y=alt.value(_HEIGHT - _STUB), y2=alt.value(_HEIGHT))
    return chart


def _svg(chart: Any, width: int, height: int = _HEIGHT) -> str:
    drawn = (
        chart.properties(width=width, height=height, autosize=alt.AutoSizeParams(type="fit-x", contains="padding"))
        .configure(aria=False, background="transparent", font="system-ui, sans-serif", padding=2)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=_INK,
            titleColor=_INK,
            gridColor=_LINE,
            domainColor=_LINE,
            tickColor=_LINE,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
        )
        .configure_text(fontSize=12)
    )
    text = io.StringIO()
    drawn.save(text, format="svg")
    return text.getvalue()
