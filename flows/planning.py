"""What a run reads. Pure: the bounds are handed in."""

from datetime import datetime, timedelta

from connectors.errors import UsageError
from connectors.windows import SECOND, Coverage, Window, floor_second


def upper_bound(local_clock: datetime, service_clock: datetime, settle: timedelta) -> datetime:
    """Where a run ends: image sets younger than the settle time may not be searchable yet.

    Args:
        local_clock: Aware.
        service_clock: Aware; from the Date header of an answer.
        settle: Held back from the earlier of the two.
    """
    return floor_second(min(local_clock, service_clock) - settle)


def plan_sync(coverage: Coverage, start: datetime, upper: datetime, look_back: timedelta) -> Coverage:
    """What a sync reads: every gap between start and the upper bound, and the look-back.

    The look-back lies behind the end of the last covered window, which is the upper bound of the run before:
    there image sets may have become searchable late. Where nothing is left over from an interrupted run, that
    end is the watermark.
    """
    if start >= upper:
        return Coverage()
    whole = Window(start, upper)
    gaps = Coverage([whole]).minus(coverage)
    if not coverage or not look_back:
        return gaps
    end = coverage.windows[-1].end
    behind = Coverage([Window(floor_second(end - look_back), end)]).within(whole)
    return gaps.union(behind)


def plan_backfill(start: datetime, end: datetime, upper: datetime) -> Coverage:
    """What a backfill reads: the range asked for, up to the upper bound, whatever the coverage.

    Args:
        start: Aware; cut to the second before it.
        end: Aware; moved to the second after it.
        upper: From `upper_bound`.

    Raises:
        UsageError: The range is empty, or too young altogether.
    """
    if start >= end:
        raise UsageError("the range is empty: --from must be before --to")
    if start >= upper:
        raise UsageError(
            f"the range is too young: image sets settle first, so it must begin before {upper:%Y-%m-%dT%H:%M:%SZ}"
        )
    return Coverage([Window(floor_second(start), min(_ceil_second(end), upper))])


def _ceil_second(moment: datetime) -> datetime:
    floor = floor_second(moment)
    return floor if floor == moment else floor + SECOND
