"""How much of the request quota a sync uses, at the usual quota and at a raised one, and how many requests it wastes.

The service answers after 100 ms and throttles by itself. Other work on the machine only ever slows a run down, so
of some runs the fastest counts. How many requests a run makes is up to chance (which scan is looked at when), so
there it is their mean.

    python -m benchmarks.quota [--rows 60000] [--raised 250000] [--runs 3]
"""

import math
import statistics
import time

from benchmarks.harness import Goal, arguments, conclude, first_core, scratch, serving, show, sync

LATENCY = 0.1
EVEN_DAYS = 80
"""Over so many days image sets are spread where they arrive steadily."""


def run(
    rows: int, runs: int, rate: float, burst: int, *, evenly: bool = False
) -> tuple[list[list[str]], tuple[float, float, float, float]]:
    """Sync so many rows; the lines, the best use of the quota and of the ideal time, mean throttled and waste."""
    lines, figures = [], []
    with serving(rate=rate, burst=burst, latency=LATENCY) as served:
        store, count = served.load(rows, days=EVEN_DAYS if evenly else None)
        pages = math.ceil(count / 50)
        for number in range(runs):
            # What the run before has used of the burst.
            time.sleep(burst / rate)
            with scratch() as folder:
                cores = first_core()
                report = sync(
                    served, store, folder / "catalog", "--rate", str(rate), "--burst", str(burst), cores=cores
                ).report
            assert report["new"] == count
            used = max(report["requests"] - burst, 1) / rate / report["seconds"]
            ideal = max(pages - burst, 1) / rate / report["seconds"]
            throttled, ratio = report["throttles"] / report["requests"], report["requests"] / pages
            figures.append((used, ideal, throttled, ratio))
            lines.append(
                [
                    f"{rate:g} a second, burst {burst}",
                    "evenly" if evenly else "IDC",
                    f"{count:,}",
                    str(number + 1),
                    f"{report['seconds']:.1f}",
                ]
                + [f"{report['requests']:,}", f"{ratio:.4f}", f"{throttled:.2%}", f"{used:.3f}", f"{ideal:.3f}"]
            )
    used, ideal, throttled, ratio = zip(*figures, strict=True)
    return lines, (max(used), max(ideal), statistics.mean(throttled), statistics.mean(ratio))


def main() -> None:
    """Measure and print."""
    given = arguments(__doc__, rows=(60_000, "image sets"), raised=(250_000, "of the raised quota"), runs=(3, "runs"))
    usual, (used, _, throttled, ratio) = run(given.rows, given.runs, 25, 50)
    raised, (more, _, _, _) = run(given.raised, given.runs, 200, 400)
    evenly, (most, _, _, _) = run(given.raised, given.runs, 200, 400, evenly=True)
    columns = [
        "quota",
        "arrivals",
        "rows",
        "run",
        "seconds",
        "requests",
        "by pages",
        "throttled",
        "quota used",
        "of ideal time",
    ]
    show("Syncs within a quota", columns, [*usual, *raised, *evenly])
    conclude(
        [
            Goal("quota used, 25 a second, burst 50", "≥ 0.98", f"{used:.3f}", used >= 0.98),
            Goal("throttled requests, mean", "≤ 0.2 %", f"{throttled:.2%}", throttled <= 0.002),
            Goal(f"requests by pages, {given.rows:,} rows, mean", "≤ 1.03", f"{ratio:.4f}", ratio <= 1.03),
            Goal("quota used, 200 a second, burst 400, even arrivals", "≥ 0.90", f"{most:.3f}", most >= 0.9),
            Goal("quota used, 200 a second, burst 400, IDC's bursts", "≥ 0.90", f"{more:.3f}", more >= 0.9),
        ],
        given.json,
    )


if __name__ == "__main__":
    main()
