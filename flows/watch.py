"""The watch flow: a catalog kept current until the run is cancelled."""

from functools import partial

from prefect import State, flow

from ahi_catalog.connectors.settings import Burst, Catalog, Every, LookBack, QueueUrl, Rate, Start
from ahi_catalog.flows.orchestration import run_in_flow
from ahi_catalog.flows.parameters import USUAL, BlockName, DatastoreIds, Rest, described, make_settings, name_run
from ahi_catalog.flows.secrets import load_phi_key
from ahi_catalog.pipeline import watch as job
from ahi_catalog.pipeline.inbox import Inbox


@flow(
    name="watch",
    description="Keep a catalog current with a data store until the run is cancelled, with a report every hour.",
    flow_run_name=name_run,
    persist_result=False,
)
@described
def watch(
    catalog: Catalog,
    *,
    datastore_ids: DatastoreIds = None,
    every: Every = USUAL.every,
    look_back: LookBack = USUAL.look_back,
    start: Start = USUAL.start,
    queue: QueueUrl = USUAL.queue,
    rate: Rate = USUAL.rate,
    burst: Burst = USUAL.burst,
    credentials: BlockName = None,
    options: Rest = USUAL.options,
) -> State[None]:
    """Keep a catalog current with a data store, until the run is cancelled."""
    settings = make_settings(
        catalog=catalog,
        datastore_ids=datastore_ids,
        every=every,
        look_back=look_back,
        start=start,
        queue=queue,
        rate=rate,
        burst=burst,
        options=options,
    )
    run = partial(job.watch, load_key=load_phi_key, inbox=Inbox(queue, datastore_ids))
    return run_in_flow(run, settings, datastore_ids, credentials, is_lasting=True)
