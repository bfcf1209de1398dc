"""Plans against sets of whole seconds."""

from datetime import UTC, datetime, timedelta, timezone
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ahi_catalog.connectors.catalog import Unit
from ahi_catalog.connectors.catalog.layout import partitions
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.pipeline.planning import Part, Scope, plan_backfill, plan_sync, plan_verify, upper_bound

BASE = datetime(2024, 2, 28, 23, 59, 30, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
micros = st.integers(0, 100_000_000)
stretches = st.lists(st.tuples(st.integers(0, 80), st.integers(1, 15)), max_size=5)


def at(second: int) -> datetime:
    return BASE + timedelta(seconds=second)


def moment(micro: int) -> datetime:
    return BASE + timedelta(microseconds=micro)


def seconds(coverage: Coverage) -> set[int]:
    return {(window.start - BASE) // timedelta(seconds=1) + i for window in coverage for i in range(window.seconds)}


@settings(max_examples=100, deadline=None)
@given(stretches, st.integers(0, 50), st.integers(0, 100), st.integers(0, 30))
def test_a_sync_reads_the_gaps_and_the_look_back_and_no_more(
    covered: list[tuple[int, int]], start: int, upper: int, back: int
) -> None:
    """Second by second: what is not covered, and what lies just behind the last covered end; within the bounds."""
    coverage = Coverage(Window(at(first), at(first + length)) for first, length in covered)
    wanted = set(range(start, upper)) - seconds(coverage)
    if coverage:
        end = max(seconds(coverage)) + 1
        wanted |= set(range(end - back, end)) & set(range(start, upper))
    assert seconds(plan_sync(coverage, at(start), at(upper), timedelta(seconds=back))) == wanted


@settings(max_examples=100, deadline=None)
@given(stretches, st.integers(1, 100), st.integers(0, 30))
def test_a_sync_after_a_sync_reads_only_the_look_back(covered: list[tuple[int, int]], upper: int, back: int) -> None:
    """Once a plan is carried out, the next one up to the same bound has no gap left."""
    coverage = Coverage(Window(at(first), at(first + length)) for first, length in covered).within(
        Window(at(0), at(upper))
    )
    done = coverage.union(plan_sync(coverage, at(0), at(upper), timedelta(seconds=back)))
    again = seconds(plan_sync(done, at(0), at(upper), timedelta(seconds=back)))
    assert again == set(range(max(0, upper - back), upper))


@settings(max_examples=100, deadline=None)
@given(micros, micros, micros, st.integers(-14, 14))
def test_the_upper_bound_is_settled_by_both_clocks(local: int, service: int, settle: int, zone: int) -> None:
    """It is the last whole second that is settled by either clock, in UTC, whatever zone a clock is told in."""
    held = timedelta(microseconds=settle)
    upper = upper_bound(moment(local).astimezone(timezone(timedelta(hours=zone))), moment(service), held)
    earlier = moment(min(local, service)) - held
    assert (upper.utcoffset(), upper.microsecond) == (timedelta(), 0)
    assert timedelta() <= earlier - upper < timedelta(seconds=1)


@settings(max_examples=100, deadline=None)
@given(micros, micros, st.integers(1, 110))
def test_a_backfill_reads_each_second_that_its_range_touches(start: int, end: int, upper: int) -> None:
    """From the second of the start to the second of the end, up to the upper bound; else it is refused."""
    begin, stop, bound = moment(start), moment(end), at(upper)
    if begin >= stop or begin >= bound:
        with pytest.raises(UsageError):
            plan_backfill(begin, stop, bound)
        return
    touched = range(start // 10**6, min((end - 1) // 10**6 + 1, upper))
    assert seconds(plan_backfill(begin, stop, bound)) == set(touched)


def test_a_range_may_end_with_the_calendar() -> None:
    """The last microsecond of the year 9999 is later than all that can be read."""
    assert seconds(plan_backfill(at(5), datetime.max.replace(tzinfo=UTC), at(50))) == set(range(5, 50))


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (at(5), at(5), "begin before it ends"),
        (at(6), at(5), "begin before it ends"),
        (at(50), at(60), "must begin before 2024-02-29T00:00:20Z"),
        (at(50) + MICROSECOND, at(60), "too young"),
        (datetime.min.replace(tzinfo=UTC), at(60), "cannot begin before 1970-01-01"),
    ],
)
def test_a_range_that_cannot_be_read_is_refused_with_what_to_do(start: datetime, end: datetime, message: str) -> None:
    """An empty range and one that has not settled are told apart."""
    with pytest.raises(UsageError, match=message):
        plan_backfill(start, end, at(50))


PARTITIONS_OF = partial(partitions, "0" * 32, Unit.DAY)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 80), st.integers(1, 15)), max_size=4), st.integers(1, 5))
def test_the_parts_of_a_verify_make_up_the_whole(stretched: list[tuple[int, int]], of: int) -> None:
    """Each partition that is covered belongs to exactly one part, and nothing else is read."""
    hours = timedelta(hours=1)
    covered = Coverage(Window(BASE + hours * start, BASE + hours * (start + length)) for start, length in stretched)
    planned = [plan_verify(covered, PARTITIONS_OF, Scope(part=Part(number, of))) for number in range(1, of + 1)]
    assert Coverage(window for part in planned for window in part) == covered
    assert sum(w.seconds for part in planned for w in part) == sum(w.seconds for w in covered)
    assert plan_verify(covered, PARTITIONS_OF, Scope()) == covered


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10 * 24), st.integers(1, 72))
def test_a_verify_reads_whole_partitions_of_what_is_covered(start: int, length: int) -> None:
    """A range is widened to the days that it touches, and cut to what is covered."""
    covered = Coverage([Window(BASE, BASE + timedelta(days=10))])
    first, last = BASE + timedelta(hours=start), BASE + timedelta(hours=start + length)
    planned = plan_verify(covered, PARTITIONS_OF, Scope(start=first, end=last))
    days = {p.window for p in PARTITIONS_OF(Window(first, last))}
    assert planned == Coverage(piece for day in days for piece in covered.within(day))


def test_a_part_is_named_by_number_or_by_the_day() -> None:
    """`today/30` goes through all thirty in thirty days."""
    assert Part.parse("3/30", BASE) == Part(3, 30)
    parts = {Part.parse("today/30", BASE + timedelta(days=day)) for day in range(30)}
    assert parts == {Part(number, 30) for number in range(1, 31)}
