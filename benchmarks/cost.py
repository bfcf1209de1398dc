"""What a first sync costs, beside the script that a user would write and dlt: CPU, memory, bytes, queries.

Each runs as a process of its own against the same unthrottled service, on plain threads (`--no-prefect`) and reads one
request at a time, as the other two do: a service that answers at once leaves more scans nothing to do but wait for
Python's lock. CPU and memory are the whole process's, imports included. Then the growth of CPU a row, plotted to
build/growth.png.

    python -m benchmarks.cost [--rows 100000] [--most 1000000]
"""

import itertools
import math
import statistics
import sys
import time
from pathlib import Path

import duckdb

from ahi_catalog.schemas import IMAGE_SETS
from benchmarks.harness import (
    ROOT,
    UNTHROTTLED,
    Goal,
    Measured,
    Served,
    arguments,
    conclude,
    measure,
    scratch,
    serving,
    show,
    size_of,
    sync,
)

PLOT = ROOT / "build" / "growth.png"
ONE_AT_A_TIME = ("--concurrency", "1")
SHORT_RUNS = 5
SHORT_ROWS = 500_000
CONTENDERS = ("ahi-catalog", "pandas", "dlt")
DATA = {
    "ahi-catalog": f"image_sets/*/*/{IMAGE_SETS.object_name}",
    "pandas": "*/*.parquet",
    "dlt": "imaging/image_sets/*.parquet",
}
PATIENT = {
    "ahi-catalog": "patient_id",
    "pandas": '"DICOMTags.DICOMPatientId"',
    "dlt": "dicom_tags__dicom_patient_id",
}
MODALITY = {
    "ahi-catalog": "series_modality",
    "pandas": '"DICOMTags.DICOMSeriesModality"',
    "dlt": "dicom_tags__dicom_series_modality",
}


def read(served: Served, store: str, who: str, folder: Path) -> Measured:
    """One of them reads the whole data store into a folder."""
    if who == "ahi-catalog":
        return sync(served, store, folder, *UNTHROTTLED, *ONE_AT_A_TIME)
    return measure([sys.executable, "-m", "benchmarks.contenders", who, store, str(folder)], served)


def warm_up(served: Served, folder: Path) -> None:
    """Have each run once on a few rows, so that Python has compiled what they import."""
    store, _ = served.load(100)
    for who in CONTENDERS:
        read(served, store, who, folder / who)


def source_of(folder: Path, who: str) -> str:
    """What one of them has written, as DuckDB reads it."""
    return f"read_parquet('{folder / who}/{DATA[who]}', hive_partitioning = true)"


def query(folder: Path) -> dict[str, list[float]]:
    """Seconds of two queries on what each has written, in DuckDB on one thread, the best of many in turn.

    The first looks up one patient, and is the mean of five: those a tenth, three tenths and so on up the patient ids.
    """
    with duckdb.connect() as connection:
        connection.execute("set threads = 1")
        deciles = f"select quantile_disc(patient_id, [0.1, 0.3, 0.5, 0.7, 0.9]) from {source_of(folder, CONTENDERS[0])}"
        [(patients,)] = connection.execute(deciles).fetchall()
        statements = {
            who: [
                *(f"select * from {source_of(folder, who)} where {PATIENT[who]} = '{patient}'" for patient in patients),
                f"select {MODALITY[who]}, count(*) from {source_of(folder, who)} group by all order by 2 desc",
            ]
            for who in CONTENDERS
        }
        best = {who: [math.inf] * len(several) for who, several in statements.items()}
        for _ in range(25):
            for who, several in statements.items():
                for place, sql in enumerate(several):
                    began = time.perf_counter()
                    connection.execute(sql).fetchall()
                    best[who][place] = min(best[who][place], time.perf_counter() - began)
    return {who: [statistics.mean(times[:-1]), times[-1]] for who, times in best.items()}


def compare(served: Served, store: str, count: int, folder: Path) -> tuple[list[list[str]], dict[str, list[float]]]:
    """All three on one data store: the table's lines, and CPU, peak, bytes and two queries' seconds of each.

    CPU is the least of several runs in turn where they are short: other work on the machine only ever adds to it.
    """
    figures: dict[str, list[float]] = {}
    again = [
        {who: read(served, store, who, folder / f"{who}-{turn}").cpu for who in CONTENDERS}
        for turn in range(SHORT_RUNS - 1 if count < SHORT_ROWS else 0)
    ]
    for who in CONTENDERS:
        cost = read(served, store, who, folder / who)
        least = min([cost.cpu, *(turn[who] for turn in again)])
        with duckdb.connect() as connection:
            [(found,)] = connection.execute(f"select count(*) from {source_of(folder, who)}").fetchall()
        assert found == count, f"{who} has {found} rows of {count}"
        figures[who] = [least, cost.peak, size_of(folder / who)]
    lines = []
    for who, (point, aggregate) in query(folder).items():
        cpu, peak, disk = figures[who]
        figures[who] += [point, aggregate]
        lines.append(
            [who, f"{count:,}", f"{cpu:.1f}", f"{cpu / count * 1e6:.0f}", f"{peak / 1e6:.0f}"]
            + [f"{disk / count:.1f}", f"{point * 1000:.1f}", f"{aggregate * 1000:.1f}"]
        )
    return lines, figures


def plot(points: list[tuple[int, float]], file: Path) -> None:
    """CPU a row by rows."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # not needed to measure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([rows for rows, _ in points], [cpu / rows * 1e6 for rows, cpu in points], marker="o")
    axes.set(xscale="log", xlabel="image sets", ylabel="CPU a row, µs", ylim=(0, None), title="Cost of a first sync")
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file)
    print(f"Plotted to {file}")


def main() -> None:
    """Measure and print."""
    given = arguments(
        __doc__,
        rows=(100_000, "image sets that CPU is compared on"),
        most=(1_000_000, "image sets that memory, bytes and queries are compared on"),
    )
    with serving(rate=None) as served, scratch() as folder:
        warm_up(served, folder / "warm-up")
        steps = sorted({given.rows // 10, given.rows, given.rows * 3} - {given.most})
        growth = []
        for rows in steps:
            store, count = served.load(rows)
            if rows == given.rows:
                lines, small = compare(served, store, count, folder / "small")
                growth.append((count, small["ahi-catalog"][0]))
            else:
                growth.append((count, read(served, store, "ahi-catalog", folder / f"of-{rows}").cpu))
        store, most = served.load(given.most)
        more, large = compare(served, store, most, folder / "large")
        growth.append((most, large["ahi-catalog"][0]))
    columns = ["", "rows", "CPU s", "CPU µs a row", "peak MB", "bytes a row", "point query ms", "aggregate ms"]
    show("A first sync, and two queries of what it wrote", columns, [*lines, *more])
    growth.sort()
    show("Growth", ["rows", "CPU µs a row"], [[f"{rows:,}", f"{cpu / rows * 1e6:.0f}"] for rows, cpu in growth])
    plot(growth, PLOT)
    ours, pandas, _ = (small[who] for who in CONTENDERS)
    big, big_pandas, big_dlt = (large[who] for who in CONTENDERS)
    falls = all(math.log(b / ours_) <= 0.1 for ours_, b in _steps(growth))
    to_beat = [min(a, b) for a, b in zip(big_pandas, big_dlt, strict=True)]
    conclude(
        [
            Goal("CPU by that of the script", "≤ 0.5", f"{ours[0] / pandas[0]:.3f}", ours[0] <= pandas[0] / 2),
            Goal(f"peak memory, {most:,} rows in days", "≤ 400 MB", f"{big[1] / 1e6:.0f} MB", big[1] <= 400e6),
            Goal(
                "bytes a row",
                f"< {to_beat[2] / most:.1f} (pandas {big_pandas[2] / most:.1f}, dlt {big_dlt[2] / most:.1f})",
                f"{big[2] / most:.1f}",
                big[2] < to_beat[2],
            ),
            Goal("point query", f"< {to_beat[3] * 1000:.1f} ms", f"{big[3] * 1000:.1f} ms", big[3] < to_beat[3]),
            Goal("aggregate", f"< {to_beat[4] * 1000:.1f} ms", f"{big[4] * 1000:.1f} ms", big[4] < to_beat[4]),
            Goal("CPU a row as rows grow", "falls or stays", "it does" if falls else "it grows", falls),
        ],
        given.json,
    )


def _steps(growth: list[tuple[int, float]]) -> list[tuple[float, float]]:
    """CPU a row of each size and of the next."""
    each = [cpu / rows for rows, cpu in growth]
    return list(itertools.pairwise(each))


if __name__ == "__main__":
    main()
