"""One run in a process of its own, as the command line runs it, which can be ended at any step."""

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from ahi_catalog.cli.running import run_job
from ahi_catalog.connectors.errors import AhiCatalogError, StoppedError
from ahi_catalog.connectors.healthimaging.source import Connection
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.pipeline import backfill, iceberg, metadata, sync, watch
from ahi_catalog.pipeline.many import Job
from ahi_catalog.pipeline.run_report import RunReport
from ahi_catalog.pipeline.scan_task import ScanExecutor
from ahi_catalog.pipeline.signals import INTERRUPTED
from tests.faults import breakage, lines, warm


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What a process is to run.

    Attributes:
        job: ``sync``, ``backfill``, ``watch`` of some passes, ``metadata`` by small pieces, or ``iceberg``.
        settings: Of the run.
        now: The local clock, which stands still but while a watch waits.
        bounds: Of a backfill.
        keep: How old a snapshot of an Iceberg table may get; None: as old as it likes.
        environment: Endpoints and credentials.
        output: A folder for what it says.
        point: Where it gets a signal, if it does.
        sends: Which.
        counts: Whether to write down how often each line ran.
        breaks: What is broken on purpose, a name in `breakage`.
        read_timeout: Seconds that clients wait for an answer.
    """

    job: str
    settings: Settings
    now: datetime
    output: Path
    bounds: tuple[datetime, datetime] | None = None
    keep: timedelta | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    point: lines.LinePoint | None = None
    sends: signal.Signals = signal.SIGKILL
    counts: bool = False
    breaks: str | None = None
    read_timeout: float = 30.0


def prepare(spec: RunSpec) -> None:
    """What is the same for all runs of one test, done before the process is forked."""
    os.environ.update(spec.environment)
    warm.read_timeout = spec.read_timeout
    warm.up()
    if spec.settings.iceberg:
        warm.up_iceberg()


def run(spec: RunSpec) -> int:
    """Run; the exit code that the command line would give. Standard output holds the report as JSON."""
    spec.output.mkdir(parents=True, exist_ok=True)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(spec.output / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    if spec.breaks:
        breakage.BREAKAGES[spec.breaks](setattr)
    counted = lines.count_lines() if spec.counts else None
    if spec.point:
        lines.signal_at(spec.point, spec.sends)
    try:
        code = _mirror(spec) if spec.job == "iceberg" else _run_job(spec)
    except StoppedError:
        # Before the catalog was opened: as cli/main.py says it.
        code = INTERRUPTED
    except AhiCatalogError as error:
        sys.stderr.write(f"Error: {error}\n")
        code = 1
    except BaseException:  # noqa: BLE001  # a process that ends otherwise is looked into by its trace
        traceback.print_exc()
        code = 70
    if counted is not None:
        listed = [[file, line, times] for (file, line), times in counted.items()]
        (spec.output / "lines").write_text(json.dumps(listed))
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _run_job(spec: RunSpec) -> int:
    job: Job = partial(sync.sync, clock=lambda: spec.now)
    if spec.job == "metadata":
        # A partition is published in several goes.
        for name, few in {"_CHUNK": 5, "_PUBLISH_AFTER": 12}.items():
            setattr(metadata, name, few)
        job = partial(metadata.read_metadata, clock=lambda: spec.now)
    if spec.job == "watch":
        job = partial(_watch, now=spec.now)
    if spec.bounds:
        start, end = spec.bounds
        job = partial(backfill.backfill, start=start, end=end, clock=lambda: spec.now)
    return run_job(job, _no_flow, spec.settings, prefect=False, as_json=True)


def _mirror(spec: RunSpec) -> int:
    request = iceberg.Request(to=spec.settings.iceberg or "", keep=spec.keep)
    done = iceberg.mirror_tables(spec.settings.catalog, spec.settings.s3, request, clock=lambda: spec.now)
    sys.stdout.write(json.dumps({each.table: each.document() for each in done}))
    return 0


_PASSES = 16


def _watch(
    settings: Settings, *, executor: ScanExecutor, stop: threading.Event, connection: Connection, now: datetime
) -> RunReport:
    """A watch that is stopped after some passes, on a clock that moves while it waits."""
    waits: list[float] = []

    class Passes(watch.Timer):
        def wait(self, seconds: float) -> None:
            waits.append(seconds)
            if len(waits) >= _PASSES:
                stop.set()

    return watch.watch(
        settings,
        executor,
        stop,
        wake=Passes(stop),
        clock=lambda: now + timedelta(seconds=sum(waits)),
        connection=connection,
    )


def _no_flow() -> None:
    raise AssertionError("the runs of this suite that go through Prefect have a file of their own")
