"""The backfill flow: a range of createdAt, read whatever the coverage."""

from datetime import datetime
from functools import partial

from prefect import State, flow

from connectors.settings import Settings
from flows import jobs
from flows.orchestration import run_in_flow


@flow(name="backfill", persist_result=False)
def backfill(settings: Settings, start: datetime, end: datetime) -> State[None]:
    """Read a range of createdAt again, or for the first time.

    Args:
        settings: What to read and where to write.
        start: Aware; the range's start.
        end: Aware; the range's end, not included.
    """
    return run_in_flow(partial(jobs.backfill, settings, start, end))
