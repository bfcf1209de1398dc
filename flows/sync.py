"""The sync flow: what is new since the last sync, then the changes."""

from functools import partial

from prefect import State, flow

from ahi_catalog.connectors.settings import Burst, Catalog, LookBack, QueueUrl, Rate, Start
from ahi_catalog.flows.orchestration import run_in_flow
from ahi_catalog.flows.parameters import USUAL, BlockName, DatastoreIds, Rest, described, make_settings, name_run
from ahi_catalog.flows.secrets import load_phi_key
from ahi_catalog.pipeline import sync as job
from ahi_catalog.pipeline.inbox import Inbox


@flow(
    name="sync",
    description="Bring a catalog up to date with a data store. A run that is ended early is resumed by the next one.",
    flow_run_name=name_run,
    persist_result=False,
)
@described
def sync(
    catalog: Catalog,
    *,
    datastore_ids: DatastoreIds = None,
    look_back: LookBack = USUAL.look_back,
    start: Start = USUAL.start,
    queue: QueueUrl = USUAL.queue,
    rate: Rate = USUAL.rate,
    burst: Burst = USUAL.burst,
    credentials: BlockName = None,
    options: Rest = USUAL.options,
) -> State[None]:
    """Bring a catalog up to date with a data store: new image sets, then changed ones. Resumes where it was ended."""
    settings = make_settings(
        catalog=catalog,
        datastore_ids=datastore_ids,
        look_back=look_back,
        start=start,
        queue=queue,
        rate=rate,
        burst=burst,
        options=options,
    )
    run = partial(job.sync, load_key=load_phi_key, inbox=Inbox(queue, datastore_ids))
    return run_in_flow(run, settings, datastore_ids, credentials)
