"""The metadata flow: series and instances of what was synced."""

from dataclasses import fields
from functools import partial
from typing import Any

from prefect import State, flow

from ahi_catalog.connectors.settings import (
    Archived,
    Catalog,
    Instances,
    Keywords,
    MetadataBurst,
    MetadataOptions,
    MetadataRate,
    Settings,
)
from ahi_catalog.flows.orchestration import run_in_flow
from ahi_catalog.flows.parameters import (
    USUAL,
    BlockName,
    DatastoreIds,
    Rest,
    described,
    make_settings,
    name_run,
    parameters_of,
)
from ahi_catalog.flows.secrets import load_phi_key
from ahi_catalog.pipeline import metadata as job


@flow(
    name="metadata",
    description="Read the metadata of what was synced, within the frequent tier. A run that is ended early is resumed "
    "by the next one.",
    flow_run_name=name_run,
    persist_result=False,
)
@described
def metadata(
    catalog: Catalog,
    *,
    datastore_ids: DatastoreIds = None,
    metadata_rate: MetadataRate = USUAL.metadata_rate,
    metadata_burst: MetadataBurst = USUAL.metadata_burst,
    keyword: Keywords = USUAL.keyword,
    instances: Instances = USUAL.instances,
    archived: Archived = USUAL.archived,
    credentials: BlockName = None,
    options: Rest = USUAL.options,
) -> State[None]:
    """Read the metadata of what was synced: series, and instances where they are asked for. Resumes where it ended."""
    settings = make_settings(
        catalog=catalog,
        datastore_ids=datastore_ids,
        metadata_rate=metadata_rate,
        metadata_burst=metadata_burst,
        keyword=keyword,
        instances=instances,
        archived=archived,
        options=options,
    )
    run = partial(job.read_metadata, load_key=load_phi_key)
    return run_in_flow(run, job.for_metadata(settings), datastore_ids, credentials)


def metadata_parameters(settings: Settings) -> dict[str, Any]:
    """The flow's parameters from settings, as JSON."""
    names = [field.name for field in fields(MetadataOptions)]
    return {name: value for name, value in parameters_of(settings, *names).items() if name not in {"rate", "burst"}}
