"""How long from an image set's createdAt until a reader of the catalog sees its row; beside an hourly sync and dlt.

python -m benchmarks.freshness [--rows 1000000] [--seconds 300] [--every 5]
"""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.harness import (
    AHI_CATALOG,
    ROOT,
    UNTHROTTLED,
    Goal,
    Served,
    arguments,
    conclude,
    measure,
    scratch,
    serving,
    show,
    sync,
)

_RATE: Final = 2.0
_IDLE_SECONDS: Final = 30
_SETTLE_SECONDS: Final = 10
_QUEUE_EVERY: Final = 30
"""Seconds from pass to pass where events wake the watch."""
_NEW: Final = "new"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a reader has seen.

    Attributes:
        delays: Seconds from createdAt until seen, of each new row.
        created: When those were created.
    """

    delays: list[float]
    created: list[datetime]

    def shares(self) -> list[float]:
        """The median, and what 95 and 99 of a hundred keep within."""
        return [float(np.quantile(self.delays, share)) for share in (0.5, 0.95, 0.99)]


def read_for(folder: Path, seconds: float, id_column: str, created_column: str) -> Seen:
    """Look at a folder of Parquet files again and again, and note when each new row is first there."""
    known: dict[str, tuple[datetime, float]] = {}
    looked: dict[Path, int] = {}
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for path in folder.rglob("*.parquet"):
            with contextlib.suppress(OSError, pa.ArrowException):  # being written by dlt, which does not rename
                if looked.get(path) == (changed := path.stat().st_mtime_ns):
                    continue
                rows = pq.read_table(path, columns=[id_column, created_column], partitioning=None)
                seen_at = datetime.now(UTC)
                looked[path] = changed
                for name, created in zip(*(column.to_pylist() for column in rows.columns), strict=True):
                    if name.startswith(_NEW) and name not in known:
                        known[name] = created, (seen_at - created).total_seconds()
        time.sleep(0.1)
    return Seen(delays=[delay for _, delay in known.values()], created=[created for created, _ in known.values()])


@contextmanager
def watching(
    served: Served, store: str, catalog: Path, every: int, options: Sequence[str]
) -> Iterator[subprocess.Popen[str]]:
    """A watch, ended by SIGTERM."""
    command = [AHI_CATALOG, "watch", "--catalog", str(catalog), "--datastore-id", store, "--every", f"{every}s"]
    process = subprocess.Popen(
        [*command, "--json", *options], stdout=subprocess.PIPE, text=True, env=served.environment
    )
    try:
        yield process
    finally:
        process.terminate()


def run_watch(
    served: Served, store: str, catalog: Path, seconds: int, every: int, *, with_events: bool = False
) -> tuple[Seen, dict[str, Any], float]:
    """What a reader sees of a watch, its report, and the requests of a pass that finds nothing."""
    queue = served.queue() if with_events else None
    with watching(served, store, catalog, every, ["--queue", queue] if queue else []) as process:
        while not list(catalog.rglob("checkpoint.json")):
            time.sleep(0.2)
        time.sleep(_SETTLE_SECONDS)
        before = served.ask("requests")
        time.sleep(_IDLE_SECONDS)
        idle = (served.ask("requests") - before) * every / _IDLE_SECONDS
        memory = [_memory(process.pid)]
        served.ask("arrive", store, seconds, _RATE, queue)
        seen = read_for(catalog, seconds + every + _SETTLE_SECONDS, "image_set_id", "created_at")
        memory.append(_memory(process.pid))
        process.terminate()
        said, _ = process.communicate(timeout=60)
        report: dict[str, Any] = json.loads(said.splitlines()[-1])
    return seen, report | {"memory": memory}, idle


def run_dlt(served: Served, store: str, folder: Path, seconds: int) -> Seen:
    """What a reader sees of a script with dlt that is started every minute."""
    command = [sys.executable, "-m", "benchmarks.contenders", "dlt", store, str(folder)]
    stop = threading.Event()

    def run_every_minute() -> None:
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            subprocess.run(command, env=served.environment, cwd=ROOT, capture_output=True, check=False)
            due += 60

    served.ask("arrive", store, seconds, _RATE)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(run_every_minute)
        seen = read_for(folder / "imaging" / "image_sets", seconds + 90, "image_set_id", "created_at")
        stop.set()
    return seen


def hourly(created: list[datetime]) -> list[float]:
    """The same image sets as a sync at each full hour would publish them: a model, not a measurement."""
    rng = np.random.default_rng(7)
    offsets = rng.uniform(0, 3600, len(created))
    return [float(np.quantile(3600 - offsets, share)) for share in (0.5, 0.95, 0.99)]


def check(served: Served, store: str, catalog: Path) -> dict[str, Any]:
    """That nothing is missing and no value wrong: a sync finds nothing to change, and a verify nothing that differs."""
    report: dict[str, Any] = sync(served, store, catalog, "--settle", "0", *UNTHROTTLED).report
    verify = [AHI_CATALOG, "verify", "--catalog", str(catalog), "--datastore-id", store, "--no-prefect", "--json"]
    today = ["--from", f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"]
    measure([*verify, *today, *UNTHROTTLED], served)  # fails where anything differs
    return report


def _memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return next(int(line.split()[1]) * 1000 for line in status.splitlines() if line.startswith("VmRSS"))


def main() -> None:
    """Measure and print."""
    given = arguments(
        __doc__,
        rows=(1_000_000, "image sets in the large catalog"),
        seconds=(300, "for which image sets arrive"),
        every=(5, "seconds from pass to pass"),
    )
    lines, goals = [], []
    with serving(rate=None, latency=0.1) as served, scratch() as folder:
        large, _ = served.load(given.rows)
        sync(served, large, folder / "large", *UNTHROTTLED[:4], "--concurrency", "64")
        empty = served.ask("create", "empty")
        events = served.ask("create", "events")
        for name, store, every, within in (
            ("empty", empty, given.every, 8),
            ("large", large, given.every, 8),
            ("events", events, _QUEUE_EVERY, 3),
        ):
            seen, report, idle = run_watch(
                served, store, folder / name, given.seconds, every, with_events=name == "events"
            )
            wrong = check(served, store, folder / name)
            left = wrong["new"] + wrong["updated"] + wrong["removed"]
            pages = max(1, report["rows_read"] / 50)
            beyond = max(0.0, report["requests"] - 3 * report["passes"]) / pages
            shares = seen.shares()
            first, last = (f"{size / 1e6:.0f} MB" for size in report["memory"])
            rewritten = report["partitions_written"] / report["passes"]
            label = f"watch --every {every}s" + (" --queue" if name == "events" else f", {name} catalog")
            figures = [*(f"{share:.1f}" for share in shares), str(report["requests"])]
            lines.append([label, str(len(seen.delays)), *figures])
            goals += [
                Goal(f"{name}: 95 of 100 within", f"≤ {within} s", f"{shares[1]:.1f} s", shares[1] <= within),
                Goal(f"{name}: requests a pass that finds nothing", "≤ 3", f"{idle:.2f}", idle <= 3),
                Goal(f"{name}: requests a page beyond", "≤ 1.5", f"{beyond:.2f}", beyond <= 1.5),
                Goal(f"{name}: partitions written a pass", "≤ 1", f"{rewritten:.2f}", rewritten <= 1),
                Goal(
                    f"{name}: memory at the start, at the end", "flat", f"{first}, {last}", _is_flat(report["memory"])
                ),
                Goal(f"{name}: rows wrong afterwards", "0", str(left), left == 0),
            ]
        lines.append(["sync every hour (modelled)", "", *(f"{share:,.0f}" for share in hourly(seen.created)), ""])
        with contextlib.suppress(ImportError):
            import dlt  # noqa: F401, PLC0415  # comes with requirements-bench.lock

            scripted = run_dlt(served, served.ask("create", "dlt"), folder / "dlt", given.seconds)
            lines.append(
                ["dlt every minute", str(len(scripted.delays)), *(f"{share:.1f}" for share in scripted.shares()), ""]
            )
    show(
        "From createdAt until a reader sees the row, seconds", ["", "rows", "median", "95 %", "99 %", "requests"], lines
    )
    conclude(goals, given.json)


def _is_flat(memory: list[int]) -> bool:
    return memory[-1] <= 1.2 * memory[0] + 10_000_000


if __name__ == "__main__":
    main()
