"""The backfill flow: a range of createdAt, read whatever the coverage."""

from functools import partial
from typing import Annotated

from prefect import State, flow
from pydantic import Field

from ahi_catalog.connectors.settings import Burst, Catalog, Moment, Rate
from ahi_catalog.flows.orchestration import run_in_flow
from ahi_catalog.flows.parameters import USUAL, BlockName, DatastoreIds, Rest, described, make_settings, name_run
from ahi_catalog.flows.secrets import load_phi_key
from ahi_catalog.pipeline import backfill as job


@flow(
    name="backfill",
    description="Read a range of createdAt again, whatever is covered. Rows of deleted image sets are removed.",
    flow_run_name=name_run,
    # Nobody repeats a backfill that an outage ended; the next hour repeats a sync, the next day a verify.
    retries=2,
    retry_delay_seconds=600,
    persist_result=False,
)
@described
def backfill(
    catalog: Catalog,
    start: Annotated[Moment, Field(description="The range's start, UTC where no zone is given.")],
    end: Annotated[Moment, Field(description="The range's end, not included.")],
    *,
    datastore_ids: DatastoreIds = None,
    rate: Rate = USUAL.rate,
    burst: Burst = USUAL.burst,
    credentials: BlockName = None,
    options: Rest = USUAL.options,
) -> State[None]:
    """Read a range of createdAt again, or for the first time; rows of deleted image sets are removed."""
    settings = make_settings(catalog=catalog, datastore_ids=datastore_ids, rate=rate, burst=burst, options=options)
    run = partial(job.backfill, start=start, end=end, load_key=load_phi_key)
    return run_in_flow(run, settings, datastore_ids, credentials)
