"""Reading metadata: how much of its quota is used, what an image set costs, and what a run with nothing new asks.

The first part reads the Imaging Data Commons from a service that answers after 100 ms and throttles by itself. The
second compares CPU with that of the script that a user would write (gzip, json, pandas), an image set more at a time:
the cost of a large run less that of a small one, so that imports do not count. The third reads one image set whose body
is of 300 MB once it is unzipped.

    python -m benchmarks.metadata [--rows 20000] [--few 100] [--runs 2] [--instances 110000]
"""

import sys
from pathlib import Path

from benchmarks.harness import (
    AHI_CATALOG,
    UNTHROTTLED,
    Goal,
    Measured,
    Served,
    arguments,
    conclude,
    first_core,
    measure,
    scratch,
    serving,
    show,
    sync,
)

RATE, BURST = 50, 100
FREE = ("--metadata-rate", "100000", "--metadata-burst", "100000", "--concurrency", "1")
SIZES = {20: 2.5, 100: 10.0, 1_000: 60.0}
"""Instances of an image set, and the milliseconds of CPU that it may take."""


def read(served: Served, store: str, catalog: Path, *options: str) -> Measured:
    """`ahi-catalog metadata` on plain threads."""
    command = [AHI_CATALOG, "metadata", "--catalog", str(catalog), "--datastore-id", store, "--no-prefect", "--json"]
    return measure([*command, *options], served, cores=first_core())


def within_quota(rows: int) -> list[Goal]:
    """Read what the guard lets through, then all, then nothing new."""
    limits = {"rate": 100_000.0, "burst": 100_000, "metadata_rate": float(RATE), "metadata_burst": BURST}
    with serving(latency=0.1, **limits) as served, scratch() as folder:
        store, count = served.load(rows)
        sync(served, store, folder, *UNTHROTTLED)
        guarded = read(served, store, folder).report
        done = read(served, store, folder, "--archived", "--yes")
        again = read(served, store, folder, "--archived", "--yes").report
    report = done.report
    assert report["rows_read"] == count
    # The service's clock is asked for once, by a search.
    asked = report["requests"] - 1
    used = max(asked - BURST, 1) / RATE / report["seconds"]
    throttled = report["throttles"] / asked
    once = asked - report["throttles"] - report["retries"]
    figures = [f"{count:,}", f"{report['seconds']:.1f}", f"{asked:,}", f"{used:.3f}", f"{throttled:.2%}"]
    more = [f"{done.cpu / count * 1000:.2f}", f"{done.peak / 1e6:.0f}"]
    show(
        "The Imaging Data Commons",
        ["image sets", "seconds", "requests", "quota used", "throttled", "CPU ms each", "peak MB"],
        [[*figures, *more]],
    )
    return [
        Goal(f"quota used, {RATE} a second, burst {BURST}", "≥ 0.97", f"{used:.3f}", used >= 0.97),
        Goal("throttled requests", "≤ 0.2 %", f"{throttled:.2%}", throttled <= 0.002),
        Goal("requests an image set, retries aside", "1", f"{once / count:.4f}", once == count),
        Goal("of archived ones by default", "0", str(guarded["rows_read"]), guarded["rows_read"] == 0),
        Goal("requests with nothing new", "0", str(again["requests"]), again["requests"] == 0),
        Goal("peak memory", "≤ 400 MB", f"{done.peak / 1e6:.0f} MB", done.peak <= 400e6),
    ]


def cost(few: int, runs: int) -> list[Goal]:
    """CPU an image set, beside the script's."""
    goals, lines = [], []
    with serving(rate=None) as served:
        for instances, most in SIZES.items():
            large = few * (20 if instances <= 100 else 2)
            stores = {count: served.uniform(count, instances) for count in (few, large)}
            spent: dict[str, dict[int, float]] = {"ahi-catalog": {}, "script": {}}
            for count, store in stores.items():
                for who, by_count in spent.items():
                    by_count[count] = min(_once(served, who, store) for _ in range(runs))
            ours, script = (1000 * (found[large] - found[few]) / (large - few) for found in spent.values())
            a_second = 1000 / ours
            lines.append([f"{instances:,}", f"{ours:.2f}", f"{script:.2f}", f"{ours / script:.2f}", f"{a_second:,.0f}"])
            goals.append(Goal(f"CPU, {instances:,} instances", f"≤ {most:g} ms", f"{ours:.2f} ms", ours <= most))
            share = ours / script
            goals.append(Goal(f"by that of the script, {instances:,}", "≤ 0.5", f"{share:.2f}", share <= 0.5))
    columns = ["instances", "CPU ms", "script's", "share", "image sets a second and core"]
    show("An image set", columns, lines)
    return goals


def _once(served: Served, who: str, store: str) -> float:
    with scratch() as folder:
        if who == "script":
            command = [sys.executable, "-m", "benchmarks.contenders", "metadata", store, str(folder / "out")]
            return measure(command, served, cores=first_core()).cpu
        sync(served, store, folder / "catalog", *UNTHROTTLED)
        return read(served, store, folder / "catalog", *FREE).cpu


def one_large(instances: int) -> list[Goal]:
    """Memory of the process that reads one image set of very many instances, with a row for each and without."""
    goals, lines = [], []
    with serving(rate=None) as served:
        store = served.uniform(1, instances)
        for options in ((), ("--instances",)):
            with scratch() as folder:
                sync(served, store, folder, *UNTHROTTLED)
                done = read(served, store, folder, *FREE, *options)
            assert done.report["rows_read"] == 1
            what = " ".join(("metadata", *options))
            lines.append([what, f"{instances:,}", f"{done.cpu:.1f}", f"{done.peak / 1e6:.0f}"])
            goals.append(
                Goal(f"peak memory, {what}, {instances:,} instances", "≤ 400 MB", lines[-1][-1], done.peak <= 400e6)
            )
    show("One image set", ["command", "instances", "CPU s", "peak MB"], lines)
    return goals


def main() -> None:
    """Measure and print."""
    given = arguments(
        __doc__,
        rows=(20_000, "image sets"),
        few=(100, "image sets of a small run"),
        runs=(2, "runs"),
        instances=(110_000, "instances of a large image set"),
    )
    goals = [*within_quota(given.rows), *cost(given.few, given.runs), *one_large(given.instances)]
    conclude(goals, given.json)


if __name__ == "__main__":
    main()
