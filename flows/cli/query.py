"""`ahi-catalog query`."""

import re
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from connectors.errors import UsageError
from connectors.settings import S3Access
from flows.cli.options import catalog_option, option, owner_option
from flows.cli.output import json_text, print_json, print_table

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN_ROWS: Final = 100
_BY_IDENTIFIER: Final = re.compile(r"\b(from|join)\s+(studies|patients)\b", re.IGNORECASE)


@click.command()
@catalog_option
@owner_option
@option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "parquet"]),
    default="table",
    help="How to write the answer to stdout.",
)
@option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.argument("sql")
def query(*, catalog: str, bucket_owner: str | None, form: str, as_json: bool, sql: str) -> None:
    """Ask a catalog something in SQL (DuckDB's), over the views image_sets, studies and patients.

    \b
    Series by modality:
      ahi-catalog query --catalog demo-catalog "select series_modality, count(*) from image_sets group by 1"
    Studies with CT and MR:
      ahi-catalog query --catalog demo-catalog "from studies where list_has_all(modalities, ['CT', 'MR'])"
    To a file:
      ahi-catalog query --catalog demo-catalog --format parquet "from image_sets" > all.parquet
    """
    from connectors.catalog import open_catalog, open_store  # `--help` does without pyarrow
    from connectors.catalog.querying import run_query
    from schemas import Policy

    form = "json" if as_json else form
    if form == "parquet" and sys.stdout.isatty():
        raise UsageError("Parquet is not for a terminal: send stdout to a file")
    opened = open_catalog(open_store(catalog, S3Access(bucket_owner=bucket_owner)))
    answer = run_query(opened, sql)
    if opened.description.phi.policy is Policy.DROP and _BY_IDENTIFIER.search(sql):
        click.echo("This catalog keeps no identifiers (--phi drop): studies and patients are empty.", err=True)
    write_answer(answer, form, title="")


def write_answer(answer: "pa.Table", form: str, *, title: str) -> None:
    """Write a table to stdout.

    Args:
        answer: The table.
        form: ``table`` (its first hundred rows), ``csv``, ``json`` or ``parquet``.
        title: Over a ``table``.
    """
    if form == "json":
        print_json(answer.to_pylist())
    elif form == "table":
        head = answer.slice(0, _SHOWN_ROWS).to_pylist()
        rows = [["" if value is None else _shown(value) for value in row.values()] for row in head]
        print_table(title, answer.column_names, rows)
        if len(answer) > _SHOWN_ROWS:
            click.echo(f"… {len(answer) - _SHOWN_ROWS:,} more rows: --format csv shows them all", err=True)
    elif form == "csv":
        import pyarrow.csv

        pyarrow.csv.write_csv(_flat(answer), sys.stdout.buffer)
    else:
        import pyarrow.parquet

        pyarrow.parquet.write_table(answer, sys.stdout.buffer)


def _flat(answer: "pa.Table") -> "pa.Table":
    """With lists and structures as JSON text, since CSV has neither."""
    import pyarrow as pa

    for index, field in enumerate(answer.schema):
        if pa.types.is_nested(field.type):
            texts = [None if value is None else json_text(value) for value in answer[index].to_pylist()]
            answer = answer.set_column(index, field.name, pa.array(texts, pa.string()))
    return answer


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
