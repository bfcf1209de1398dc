"""The sync flow: what is new since the last sync, then the changes."""

from functools import partial

from prefect import State, flow

from connectors.settings import Settings
from flows import jobs
from flows.orchestration import run_in_flow


@flow(name="sync", persist_result=False)
def sync(settings: Settings) -> State[None]:
    """Bring a catalog up to date with a data store.

    Args:
        settings: What to read and where to write.
    """
    return run_in_flow(partial(jobs.sync, settings))
