"""The sync flows: what is new since the last sync, then the changes."""

from functools import partial

from prefect import State, flow

from connectors.settings import Settings
from flows import jobs
from flows.orchestration import run_in_flow, run_many_in_flow


@flow(name="sync", persist_result=False)
def sync(settings: Settings) -> State[None]:
    """Bring a catalog up to date with a data store.

    Args:
        settings: What to read and where to write.
    """
    return run_in_flow(partial(jobs.sync, settings), settings)


@flow(name="sync-many", persist_result=False)
def sync_many(settings: Settings, datastore_ids: list[str] | None = None) -> State[None]:
    """Bring a catalog up to date with several data stores, side by side under one quota.

    Args:
        settings: Of each; its own data store id, 32 zeros, counts for nothing.
        datastore_ids: The data stores. None: all active ones of the account and region.
    """
    return run_many_in_flow(jobs.sync, settings, datastore_ids)
