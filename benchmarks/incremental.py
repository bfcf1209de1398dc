"""What a sync costs on a catalog that is up to date, and after a thousand new and a thousand changed image sets.

python -m benchmarks.incremental [--rows 1000000] [--changes 1000]
"""

import sys
import time

from benchmarks.harness import UNTHROTTLED, Goal, arguments, conclude, measure, scratch, serving, show, sync

IMPORTS = """
import os
from ahi_catalog.cli.main import LIBRARIES
os.environ |= LIBRARIES
import ahi_catalog.cli.running, ahi_catalog.pipeline.sync, boto3, pyarrow.parquet
"""
DAYS = ("2022-02-07", "2024-07-06", "2024-07-07", "2025-08-10")


def main() -> None:
    """Measure and print."""
    given = arguments(
        __doc__, rows=(1_000_000, "image sets in the catalog"), changes=(1_000, "new and changed image sets each")
    )
    with serving(rate=None) as served, scratch() as folder:
        store, count = served.load(given.rows)
        settled = ("--settle", "0", "--look-back", "0", *UNTHROTTLED)
        first = sync(served, store, folder / "catalog", *settled)
        imports = min(measure([sys.executable, "-c", IMPORTS], served).cpu for _ in range(3))
        runs = []
        for _ in range(3):
            time.sleep(2)  # a run that begins in the second up to which the one before read asks for nothing at all
            runs.append(sync(served, store, folder / "catalog", *settled))
        nothing = min(runs, key=lambda run: run.cpu)
        time.sleep(4)  # the new image sets are two seconds old, and no run has covered that second yet
        served.ask("change", store, DAYS, given.changes, given.changes)
        time.sleep(3)
        some = sync(served, store, folder / "catalog", *settled)
    lines = [
        [name, f"{run.report['requests']:,}", f"{run.cpu:.2f}", f"{run.wall:.1f}", f"{run.peak / 1e6:.0f}"]
        + [str(run.report[key]) for key in ("new", "updated", "partitions_written")]
        for name, run in (("first sync", first), ("nothing new", nothing), ("some new, some changed", some))
    ]
    show(
        f"Syncs of a catalog of {count:,} rows; importing takes {imports:.2f} s of CPU",
        ["", "requests", "CPU s", "seconds", "peak MB", "new", "updated", "partitions written"],
        lines,
    )
    asked, beyond = max(run.report["requests"] for run in runs), nothing.cpu - imports
    report = some.report
    assert (report["new"], report["updated"]) == (given.changes, given.changes), "the changes were not followed"
    written, least = report["partitions_written"], 1 + len(DAYS)
    conclude(
        [
            Goal("nothing new: requests", "≤ 3", str(asked), asked <= 3),
            Goal("nothing new: CPU beyond imports", "≤ 1 s", f"{beyond:.2f} s", beyond <= 1),
            Goal("1,000 new, 1,000 changed: requests", "≤ 70", str(report["requests"]), report["requests"] <= 70),
            Goal("only partitions with a change rewritten", f"≤ {least}", str(written), written <= least),
        ],
        given.json,
    )


if __name__ == "__main__":
    main()
