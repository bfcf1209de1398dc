"""The metadata flow: series and instances of what was synced."""

from dataclasses import fields
from functools import partial
from typing import Annotated, Any

from prefect import State, flow
from pydantic import Field

from ahi_catalog.connectors.settings import Catalog, Keyword, MetadataOptions, Settings
from ahi_catalog.flows.orchestration import run_in_flow
from ahi_catalog.flows.parameters import (
    USUAL,
    BlockName,
    DatastoreIds,
    Rest,
    described,
    description_of,
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
    metadata_rate: Annotated[float, Field(gt=0, description=description_of("metadata_rate"))] = USUAL.metadata_rate,
    metadata_burst: Annotated[int, Field(ge=1, description=description_of("metadata_burst"))] = USUAL.metadata_burst,
    keyword: Annotated[list[Keyword] | None, Field(description=description_of("keyword"))] = None,
    instances: Annotated[bool, Field(description=description_of("instances"))] = False,
    archived: Annotated[bool, Field(description=description_of("archived"))] = False,
    credentials: BlockName = None,
    options: Rest = USUAL.options,
) -> State[None]:
    """Read the metadata of what was synced: series, and instances where they are asked for. Resumes where it ended."""
    settings = make_settings(
        catalog=catalog,
        datastore_ids=datastore_ids,
        rate=USUAL.rate,
        burst=USUAL.burst,
        options=options,
        metadata=MetadataOptions(
            metadata_rate=metadata_rate,
            metadata_burst=metadata_burst,
            keyword=tuple(keyword or ()),
            instances=instances,
            archived=archived,
        ),
    )
    run = partial(job.read_metadata, load_key=load_phi_key)
    return run_in_flow(run, job.for_metadata(settings), datastore_ids, credentials)


def metadata_parameters(settings: Settings) -> dict[str, Any]:
    """The flow's parameters from settings, as JSON."""
    given = {field.name: getattr(settings.metadata, field.name) for field in fields(MetadataOptions)}
    rest = {name: value for name, value in parameters_of(settings).items() if name not in {"rate", "burst"}}
    return rest | given | {"keyword": list(settings.metadata.keyword) or None}
