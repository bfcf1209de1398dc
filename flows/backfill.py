"""The backfill flows: a range of createdAt, read whatever the coverage."""

from datetime import datetime
from functools import partial

from prefect import State, flow

from connectors.settings import Settings
from flows import jobs
from flows.orchestration import run_in_flow, run_many_in_flow


@flow(name="backfill", persist_result=False)
def backfill(settings: Settings, start: datetime, end: datetime) -> State[None]:
    """Read a range of createdAt again, or for the first time.

    Args:
        settings: What to read and where to write.
        start: Aware; the range's start.
        end: Aware; the range's end, not included.
    """
    return run_in_flow(partial(jobs.backfill, settings, start, end), settings)


@flow(name="backfill-many", persist_result=False)
def backfill_many(
    settings: Settings, start: datetime, end: datetime, datastore_ids: list[str] | None = None
) -> State[None]:
    """Read a range of createdAt of several data stores again, side by side under one quota.

    Args:
        settings: Of each; its own data store id, 32 zeros, counts for nothing.
        start: Aware; the range's start.
        end: Aware; the range's end, not included.
        datastore_ids: The data stores. None: all active ones of the account and region.
    """
    return run_many_in_flow(partial(jobs.backfill, start=start, end=end), settings, datastore_ids)
