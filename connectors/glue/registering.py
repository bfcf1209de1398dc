"""Making and keeping up to date the catalog's table in Glue: GetTable, and only what it shows to be needed.

A second call with nothing new is one GetTable. Nothing is ever deleted, so grants and LF tags on the table stay.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import botocore.exceptions as boto

from ahi_catalog.connectors import aws
from ahi_catalog.connectors.aws_failures import REFUSED_CREDENTIALS, UNANSWERED, error_code, no_answer
from ahi_catalog.connectors.errors import AhiCatalogError, ConflictError, UsageError
from ahi_catalog.connectors.glue.table import Json, brought_up_to_date, new_table
from ahi_catalog.connectors.retrying import retry_on_conflict
from ahi_catalog.schemas.external import ExternalTable

_NAME: Final = re.compile(r"[a-z0-9_][a-z0-9_-]{0,254}")
_ABSENT: Final = "EntityNotFoundException"
_HELD_BY_OTHERS: Final = frozenset({"AlreadyExistsException", "ConcurrentModificationException"})
_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a registration did.

    Attributes:
        database: Glue's database.
        table: The table in it.
        changes: One line each; empty where all was as it should be.
    """

    database: str
    table: str
    changes: list[str]


def open_glue() -> Any:
    """Glue's client, with boto3's credentials, region and endpoint.

    Raises:
        UsageError: boto3 finds no region, or a profile that does not exist.
    """
    # Nothing here is hurt by boto3's own retries: what a lost answer left behind is read again.
    return aws.make_client("glue", connections=1, read_timeout=60, attempts=_ATTEMPTS)


def register(client: Any, table: ExternalTable) -> Registration:
    """Make the database and the table where they are missing, or bring the table up to date.

    Args:
        client: Glue's.
        table: The catalog's, with a database and a location on S3.

    Raises:
        UsageError: A name is none that Athena takes, or the table is there and not this catalog's.
        AhiCatalogError: Glue refuses.
    """
    for name in (table.database, table.name):
        if not _NAME.fullmatch(name):
            raise UsageError("a name in Glue is 1 to 255 of a-z, 0-9, _ and -: Athena knows no capitals")
    return Registration(database=table.database, table=table.name, changes=retry_on_conflict(_attempt, client, table))


def _attempt(client: Any, table: ExternalTable) -> list[str]:
    found = _call(client.get_table, DatabaseName=table.database, Name=table.name)
    if found is None:
        return _create(client, table)
    changed, changes = brought_up_to_date(found["Table"], table)
    if changes:
        # The version that was read: an update in between is a conflict, and read again.
        version = {"VersionId": found["Table"]["VersionId"]} if "VersionId" in found["Table"] else {}
        if _call(client.update_table, DatabaseName=table.database, TableInput=changed, **version) is None:
            raise ConflictError(f"the table {table.name} was dropped meanwhile")
    return changes


def _create(client: Any, table: ExternalTable) -> list[str]:
    request = {"DatabaseName": table.database, "TableInput": new_table(table)}
    created = f"created table {table.name}"
    if _call(client.create_table, **request) is not None:
        return [created]
    description = "Made by ahi-catalog."
    _call(client.create_database, DatabaseInput={"Name": table.database, "Description": description})
    if _call(client.create_table, **request) is None:
        raise ConflictError(f"the database {table.database} was dropped meanwhile")
    return [f"created database {table.database}", created]


def _call(function: Any, **request: Any) -> Json | None:
    """Glue's answer; None where what it needs is not there."""
    try:
        answer: Json = function(**request)
    except boto.ClientError as error:
        code = error_code(error)
        if code == _ABSENT:
            return None
        if code in _HELD_BY_OTHERS:
            raise ConflictError("another process changes the table in Glue all the time; try again") from None
        if code in {"AccessDeniedException", "AccessDenied"}:
            raise AhiCatalogError(
                f"Glue denies access: allow glue:{error.operation_name} on the catalog, the database and the table "
                "(and grant it in Lake Formation, where that is used)"
            ) from None
        advice = REFUSED_CREDENTIALS.get(code, "see the service's documentation of that error")
        raise AhiCatalogError(f"Glue refuses {error.operation_name} with {code}: {advice}") from None
    except UNANSWERED as error:
        raise AhiCatalogError(f"Glue: {no_answer(error, 'AWS_ENDPOINT_URL_GLUE').advice}") from None
    return answer
