"""A backfill: a range of createdAt, read again or for the first time, whatever is covered."""

import threading
from datetime import datetime

from ahi_catalog.connectors.healthimaging.pages import Field
from ahi_catalog.connectors.healthimaging.source import Connection
from ahi_catalog.connectors.phi_key import load_phi_key
from ahi_catalog.connectors.redaction import redact_errors
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.pipeline import engine
from ahi_catalog.pipeline.notifying import notified
from ahi_catalog.pipeline.planning import plan_backfill, upper_bound
from ahi_catalog.pipeline.privacy import LoadKey
from ahi_catalog.pipeline.run import Clock, now, open_run
from ahi_catalog.pipeline.run_report import RunReport
from ahi_catalog.pipeline.scan_task import ScanExecutor
from ahi_catalog.pipeline.sink import Publisher


@notified("backfill")
@redact_errors
def backfill(
    settings: Settings,
    start: datetime,
    end: datetime,
    executor: ScanExecutor,
    stop: threading.Event,
    *,
    clock: Clock = now,
    connection: Connection | None = None,
    load_key: LoadKey = load_phi_key,
) -> RunReport:
    """Read a range of createdAt; rows of deleted image sets are removed.

    Args:
        settings: What to read and where to write.
        start: Aware; the range's start.
        end: Aware; the range's end, not included.
        executor: Where scans run.
        stop: Set it to end the run early, with what is proven published.
        clock: The local clock, aware.
        connection: Shared with runs on other data stores; None: one of its own.
        load_key: Loads the key of pseudonyms.

    Raises:
        AhiCatalogError: The run failed; what was proven by then is published and covered.
    """
    setup = open_run(settings, executor, stop, clock=clock, connection=connection, load_key=load_key)
    upper = upper_bound(clock(), setup.source.clock(setup.counts), settings.settle)
    windows = plan_backfill(start, end, upper)
    with setup.running("backfill", *setup.open_or_create_catalog(before_creating=lambda: None)) as run:
        present, windows = run.find_partitions(run.checkpointer.open(upper), windows)
        engine.read(run, Field.CREATED_AT, windows, Publisher(run), present=present)
    return run.report
