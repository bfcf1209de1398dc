"""Which data stores a command is for: one, several, or all."""

from collections.abc import Sequence
from typing import Final

import click
from click.core import ParameterSource

from ahi_catalog.connectors.errors import UsageError

_NEAREST_FIRST: Final = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP)


def chosen_datastores(datastore_ids: Sequence[str], *, every: bool) -> list[str] | None:
    """The ids that ``--datastore-id`` names, each once; None: ``--all``.

    Where flags, variables and the settings file name both, the nearer one counts.

    Args:
        datastore_ids: Of ``--datastore-id``.
        every: Whether ``--all`` is set.

    Raises:
        UsageError: Neither is given, or both at once.
    """
    named = list(dict.fromkeys(datastore_ids))
    if named and every:
        distances = [_distance(name) for name in ("datastore_id", "all")]
        if distances[0] == distances[1]:
            raise UsageError("give --datastore-id or --all, not both")
        return named if distances[0] < distances[1] else None
    if not named and not every:
        raise UsageError("say which data store with --datastore-id ID (again for each of several), or give --all")
    return None if every else named


def _distance(name: str) -> int:
    source = click.get_current_context().get_parameter_source(name)
    return _NEAREST_FIRST.index(source) if source in _NEAREST_FIRST else len(_NEAREST_FIRST)
