"""What a run reads. Pure: the bounds are handed in."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ahi_catalog.connectors.catalog import Partition
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.settings import EARLIEST
from ahi_catalog.connectors.windows import Coverage, Window, ceil_second, floor_second, format_time


def upper_bound(local_clock: datetime, service_clock: datetime, settle: timedelta) -> datetime:
    """Where coverage ends: image sets younger than the settle time may not all be searchable yet.

    Args:
        local_clock: Aware.
        service_clock: Aware; from the Date header of an answer.
        settle: Held back from the earlier of the two.
    """
    return floor_second(min(local_clock, service_clock) - settle)


def plan_sync(coverage: Coverage, start: datetime, until: datetime, look_back: timedelta) -> Coverage:
    """What a sync reads: every gap between the start and now, and the look-back.

    What is younger than the settle time is a gap to every run, since none covers it. The look-back lies behind the end
    of the last covered window, the upper bound of the run before: there image sets may have become searchable late.
    Where nothing is left over from an interrupted run, that end is the watermark.
    """
    if start >= until:
        return Coverage()
    whole = Window(start, until)
    gaps = Coverage([whole]).minus(coverage)
    if not coverage or not look_back:
        return gaps
    end = coverage.windows[-1].end
    behind = Coverage([Window(floor_second(end - look_back), end)]).within(whole)
    return gaps.union(behind)


def check_start(start: datetime | None, now: datetime) -> None:
    """Refuse a start of coverage that has not come yet; None begins with the data store.

    Raises:
        UsageError: It lies in the future.
    """
    if start is not None and start > now:
        raise UsageError("coverage cannot begin in the future: check `start`")


def plan_backfill(start: datetime, end: datetime, upper: datetime) -> Coverage:
    """What a backfill reads: the range asked for, up to the upper bound, whatever the coverage.

    Args:
        start: Aware; cut to the second before it.
        end: Aware; moved to the second after it.
        upper: From `upper_bound`.

    Raises:
        UsageError: The range is empty, begins before there can be image sets, or is too young altogether.
    """
    if start >= end:
        raise UsageError("the range is empty: it has to begin before it ends")
    if start < EARLIEST:
        raise UsageError("the range cannot begin before 1970-01-01: no image set is that old")
    if start >= upper:
        raise UsageError(
            f"the range is too young: image sets settle first, so it must begin before {format_time(upper)}"
        )
    return Coverage([Window(floor_second(start), ceil_second(min(end, upper)))])


@dataclass(frozen=True, slots=True)
class Part:
    """One of so many parts of a catalog's partitions: every so manieth of them, whatever the catalog's size.

    Raises:
        UsageError: There is no such part.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise UsageError(f"part {self.number} of {self.of} is none: the first is 1/{self.of}")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, partition: Partition) -> bool:
        """Whether a partition belongs to this part."""
        return partition.ordinal % self.of == self.number - 1

    @classmethod
    def parse(cls, text: str, today: datetime) -> "Part":
        """The part that a text names: ``3/30``, or ``today/30``, which goes on by one a day.

        Raises:
            UsageError: It names none.
        """
        found = re.fullmatch(r"(\d{1,6}|today)/(\d{1,6})", text)
        if not found or int(found[2]) < 1:
            raise UsageError("a part is 3/30 (the third of thirty), or today/30 (another one each day)")
        of = int(found[2])
        return cls(today.toordinal() % of + 1 if found[1] == "today" else int(found[1]), of)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The partitions that a verification is asked for.

    Attributes:
        start: Aware; partitions that end by then are left out. None: from the beginning.
        end: Aware; partitions that begin then or later are left out. None: to the end.
        part: Of the partitions; None: all.
    """

    start: datetime | None = None
    end: datetime | None = None
    part: Part | None = None

    def __post_init__(self) -> None:
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise UsageError("the range is empty: it has to begin before it ends")

    def __str__(self) -> str:
        bounds = [moment.isoformat() if moment else "" for moment in (self.start, self.end)]
        return f"{bounds[0]}..{bounds[1]} part {self.part or '1/1'}"

    def has(self, partition: Partition) -> bool:
        """Whether a partition is asked for."""
        bounds = partition.window
        is_in_range = (self.start is None or bounds.end > self.start) and (self.end is None or bounds.start < self.end)
        return is_in_range and (self.part is None or self.part.has(partition))


def plan_verify(coverage: Coverage, partitions_of: Callable[[Window], Iterable[Partition]], scope: Scope) -> Coverage:
    """What a verification reads: what is covered, of whole partitions.

    Args:
        coverage: What is covered.
        partitions_of: The partitions that a window touches.
        scope: What is asked for.
    """
    return Coverage(
        piece
        for window in coverage
        for partition in partitions_of(window)
        if scope.has(partition)
        for piece in Coverage([window]).within(partition.window)
    )
