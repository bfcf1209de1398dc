"""How much of the quota a sync uses where the store is far and the days are small: each day is an object of its own.

A folder stands in for the store; it answers every read and write after 40 ms, as S3 does, and is written by as many
threads as S3 is (then by two, to compare). The service answers after 100 ms, 25 times a second.

    python -m benchmarks.far_store [--rows 30000]
"""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ahi_catalog.connectors.settings import Quota, Settings
from ahi_catalog.connectors.storage import Entry, LocalStore, Stored
from ahi_catalog.connectors.storage.s3 import S3Store
from ahi_catalog.pipeline import run, sync
from ahi_catalog.pipeline.executors import open_threads
from ahi_catalog.pipeline.run_report import RunReport
from benchmarks.harness import Goal, Served, arguments, conclude, scratch, serving, show

LATENCY = 0.1
STORE_LATENCY = 0.04
ROWS_A_DAY = 15
QUOTA = Quota(rate=25, burst=50)


class FarStore:
    """A folder that takes its time."""

    def __init__(self, folder: Path, writers: int) -> None:
        self._near = LocalStore(folder)
        self.url, self.writers = self._near.url, writers

    def get(self, key: str) -> Stored | None:
        time.sleep(STORE_LATENCY)
        return self._near.get(key)

    def put(self, key: str, body: bytes, *, expected: str | None) -> str:
        time.sleep(STORE_LATENCY)
        return self._near.put(key, body, expected=expected)

    def entries(self, prefix: str) -> Iterator[Entry]:
        time.sleep(STORE_LATENCY)
        return self._near.entries(prefix)


def sync_far(served: Served, store: str, folder: Path, writers: int) -> RunReport:
    """Sync a data store into a folder that is far away."""
    os.environ.update(served.environment)
    module: Any = run
    module.open_store = lambda *_: FarStore(folder, writers)
    settings = Settings(catalog=str(folder), datastore_id=store, quota=QUOTA)
    with open_threads(settings.workers) as executor:
        return sync.sync(settings, executor, threading.Event())


def main() -> None:
    """Measure and print."""
    given = arguments(__doc__, rows=(30_000, "image sets"))
    lines, used = [], {}
    with serving(rate=QUOTA.rate, burst=QUOTA.burst, latency=LATENCY) as served:
        store, count = served.load(given.rows, days=given.rows // ROWS_A_DAY)
        for writers in (S3Store.writers, 2):
            with scratch() as folder:
                report = sync_far(served, store, folder / "catalog", writers)
            assert report.new == count
            used[writers] = max(report.counts.requests - QUOTA.burst, 1) / QUOTA.rate / report.seconds
            lines.append(
                [str(writers), f"{count:,}", f"{report.partitions_written:,}", f"{report.counts.requests:,}"]
                + [f"{report.seconds:.1f}", f"{used[writers]:.3f}"]
            )
    columns = ["writers", "rows", "objects", "requests", "seconds", "quota used"]
    show(f"Small days on a store {STORE_LATENCY * 1000:.0f} ms away", columns, lines)
    many, two = used[S3Store.writers], used[2]
    conclude(
        [
            Goal(
                "small days on a far store, quota used by that of two writers",
                "≥ 2",
                f"{many / two:.1f}",
                many >= 2 * two,
            )
        ],
        given.json,
    )


if __name__ == "__main__":
    main()
