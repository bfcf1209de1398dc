"""The flows' parameters as Prefect's form and `prefect deployment run -p` show them, and the settings made of them.

Types, limits, defaults and descriptions are those of the declared settings. Prefect keeps parameters in its database:
they hold no patient's data, and of credentials only a block's name.
"""

import inspect
from collections.abc import Callable
from dataclasses import fields
from types import SimpleNamespace
from typing import Annotated, Any, Final, TypeVar, get_type_hints

from prefect.runtime import flow_run
from pydantic import Field, TypeAdapter
from pydantic.fields import FieldInfo

from ahi_catalog.connectors.settings import DatastoreId, Options, Settings, declared
from ahi_catalog.pipeline.many import EACH

_Flow = TypeVar("_Flow", bound=Callable[..., Any])

DatastoreIds = Annotated[
    list[DatastoreId] | None,
    Field(
        min_length=1,
        description="The data stores to read, each 32 of 0-9 and a-z. None: all active ones of the account and region.",
    ),
]
BlockName = Annotated[
    str | None,
    Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$",
        description="Name of an AwsCredentials block. None: the credentials that boto3 finds on the machine.",
    ),
]
Rest = Annotated[Options, Field(description="What a run seldom needs to be told.")]

_OPTIONS: Final[TypeAdapter[Options]] = TypeAdapter(Options)
USUAL: Final = SimpleNamespace(
    **{name: setting.default for name, setting in declared().items()},
    options=_OPTIONS.dump_python(Options(), mode="json"),
)
"""The defaults of all settings, and the options among them taken together, as JSON has them."""


def described(flow: _Flow) -> _Flow:
    """A flow's function, each of whose parameters the form describes as its annotation does.

    Prefect takes descriptions from docstrings alone.
    """
    hints = get_type_hints(flow, include_extras=True)
    told = {name: FieldInfo.from_annotation(hint).description for name, hint in hints.items() if name != "return"}
    lines = [f"    {name}: {description}" for name, description in told.items()]
    flow.__doc__ = "\n".join([inspect.cleandoc(flow.__doc__ or ""), "", "Args:", *lines])
    return flow


def name_run() -> str:
    """What a run is called on Prefect's pages: what it reads, and which catalog that is for."""
    given = flow_run.parameters
    ids = given.get("datastore_ids") or []
    which = f"data store {ids[0]}" if len(ids) == 1 else f"{len(ids) or 'all'} data stores"
    bounds = [f"{moment:%Y-%m-%d}" if moment else "" for moment in (given.get("start"), given.get("end"))]
    parts = [given.get("part"), f"{bounds[0]}..{bounds[1]}" if any(bounds) else None]
    return " ".join([flow_run.flow_name, *filter(None, parts), "of", which, "for", given["catalog"]])


def check_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options, which a run would take.

    Raises:
        UsageError: One of them is none, or they do not go together.
    """
    _OPTIONS.validate_python(options)
    return options


def make_settings(*, datastore_ids: list[str] | None, options: Options | dict[str, Any], **given: Any) -> Settings:
    """The settings of a run from its flow's parameters.

    Args:
        datastore_ids: The data stores; where it is not one, the settings are those of each.
        options: The rest, as they are or as JSON has them.
        given: The settings that are parameters of the same name.

    Raises:
        UsageError: They do not go together.
    """
    checked = _OPTIONS.validate_python(options)
    named = {field.name: getattr(checked, field.name) for field in fields(Options)}
    datastore_id = datastore_ids[0] if datastore_ids and len(datastore_ids) == 1 else EACH
    return Settings.of(datastore_id=datastore_id, **named, **given)


def parameters_of(settings: Settings, *more: str) -> dict[str, Any]:
    """The parameters that every flow has, as JSON, from settings: the way back from `make_settings`.

    Of the options only what was said: the rest follows the version that runs.

    Args:
        settings: Of the run.
        more: Settings that are parameters of this flow too, by name.
    """
    said: dict[str, Any] = TypeAdapter(Settings).dump_python(settings, mode="json")
    quota = said.pop("quota")
    said |= quota | said.pop("metadata")
    options = {
        field.name: said[field.name] for field in fields(Options) if said[field.name] != USUAL.options[field.name]
    }
    return {
        "catalog": settings.catalog,
        "datastore_ids": None if settings.datastore_id == EACH else [settings.datastore_id],
        **quota,
        "options": options,
        **{name: said[name] for name in more if said[name] is not None},
    }
