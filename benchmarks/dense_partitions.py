"""What a partition of very many rows costs: a day of 200,000 image sets, a month of a million, and a change to each.

A merge holds the partition that it writes, so memory follows the rows of the largest one. Each run is a process of its
own against an unthrottled service that is read one request at a time; CPU and memory are the whole process's.

    python -m benchmarks.dense_partitions [--day 200000] [--month 1000000]
"""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.harness import UNTHROTTLED, Goal, Measured, Served, arguments, conclude, scratch, serving, show, sync

START = datetime(2026, 1, 1, tzinfo=UTC)
"""Of the month, and of the day."""
DAYS = {"day": 1, "month": 31}
CHANGED = 1_000


def run(served: Served, unit: str, rows: int, folder: Path) -> tuple[list[list[str]], Measured, Measured]:
    """The first sync of a partition of so many rows, and one after some of them have changed; the table's lines."""
    store, count = served.load(rows, days=DAYS[unit], until=START + timedelta(days=DAYS[unit]))
    options = ("--partition", unit, "--settle", "0", *UNTHROTTLED, "--concurrency", "1")
    first = sync(served, store, folder / unit, *options)
    assert first.report["new"] == count
    [written] = (folder / unit).glob("image_sets/*/*/*.parquet")
    days = [f"{START + timedelta(days=day):%Y-%m-%d}" for day in range(DAYS[unit])]
    served.change(store, days, new=0, changed=CHANGED)
    time.sleep(3)  # the second of the change must be over to be read
    later = sync(served, store, folder / unit, *options)
    assert later.report["updated"] > 0
    lines = [
        [f"{unit}, {what}", f"{count:,}", f"{written.stat().st_size / 1e6:.1f}"]
        + [f"{cost.cpu:.1f}", f"{cost.wall:.1f}", f"{cost.peak / 1e6:.0f}"]
        for what, cost in (("first sync", first), (f"{later.report['updated']:,} changed", later))
    ]
    return lines, first, later


def main() -> None:
    """Measure and print."""
    given = arguments(__doc__, day=(200_000, "image sets of the day"), month=(1_000_000, "image sets of the month"))
    with serving(rate=None) as served, scratch() as folder:
        lines, *of_day = run(served, "day", given.day, folder)
        more, *_ = run(served, "month", given.month, folder)
    columns = ["partition", "rows", "object MB", "CPU s", "seconds", "peak MB"]
    show("Dense partitions", columns, [*lines, *more])
    peak = max(cost.peak for cost in of_day)
    conclude(
        [Goal(f"peak memory, a day of {given.day:,} rows", "≤ 500 MB", f"{peak / 1e6:.0f} MB", peak <= 500e6)],
        given.json,
    )


if __name__ == "__main__":
    main()
