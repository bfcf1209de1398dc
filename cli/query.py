"""`ahi-catalog query`."""

import re
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from ahi_catalog.cli.opening import open_to_read, read_options
from ahi_catalog.cli.options import option
from ahi_catalog.cli.output import fits, json_text, make_table, pairs_table, print_json, show
from ahi_catalog.connectors.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_SHOWN_ROWS: Final = 100
_SHOWN_RECORDS: Final = 10
_GROUPED_FROM: Final = 10_000
_BY_IDENTIFIER: Final = re.compile(r"\b(from|join)\s+(studies|patients)\b", re.IGNORECASE)


@click.command()
@read_options
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
    """Ask a catalog something in SQL (DuckDB's), over image_sets, series, instances, studies and patients.

    \b
    Series by modality:
      ahi-catalog query --catalog demo-catalog "select series_modality, count(*) from image_sets group by 1"
    Studies with CT and MR:
      ahi-catalog query --catalog demo-catalog "from studies where list_has_all(modalities, ['CT', 'MR'])"
    To a file:
      ahi-catalog query --catalog demo-catalog --format parquet "from image_sets" > all.parquet
    """
    from ahi_catalog.connectors.catalog.querying import run_query  # `--help` does without pyarrow

    form = "json" if as_json else form
    if form == "parquet" and sys.stdout.isatty():
        raise UsageError("Parquet is not for a terminal: send stdout to a file")
    opened = open_to_read(catalog, bucket_owner)
    answer = run_query(opened, sql)
    if not opened.description.phi.tells_patients and _BY_IDENTIFIER.search(sql):
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
        _show(answer, title)
    elif form == "csv":
        import pyarrow.csv

        pyarrow.csv.write_csv(_flat(answer), sys.stdout.buffer)
    else:
        import pyarrow.parquet

        pyarrow.parquet.write_table(answer, sys.stdout.buffer)


def _show(answer: "pa.Table", title: str) -> None:
    """The first rows as a table; one below the other where that is too wide to read."""
    columns = [column.to_pylist() for column in answer.slice(0, _SHOWN_ROWS).columns]
    rows = [[_shown(value) for value in row] for row in zip(*columns, strict=True)]
    table = make_table(title, answer.column_names, rows)
    shown = len(rows)
    if not rows:
        click.echo("No rows.", err=True)
    elif fits(table):
        show(table)
    else:
        shown = min(shown, _SHOWN_RECORDS)
        for number, row in enumerate(rows[:shown], 1):
            show(pairs_table(f"row {number}", [pair for pair in zip(answer.column_names, row, strict=True) if pair[1]]))
        click.echo("Too wide for a table: row by row, without empty values; --format csv shows them all", err=True)
    if len(answer) > shown:
        click.echo(f"… {len(answer) - shown:,} more rows: --format csv shows them all", err=True)


def _flat(answer: "pa.Table") -> "pa.Table":
    """With lists and structures as JSON text, since CSV has neither."""
    import pyarrow as pa

    for index, field in enumerate(answer.schema):
        if pa.types.is_nested(field.type):
            texts = [None if value is None else json_text(value) for value in answer[index].to_pylist()]
            answer = answer.set_column(index, field.name, pa.array(texts, pa.string()))
    return answer


def _shown(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value)
        case int():
            # A year, or a series' number, is no amount.
            return f"{value:,}" if abs(value) >= _GROUPED_FROM else str(value)
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}{'Z' if value.tzinfo else ''}"
        case list():
            return ", ".join(map(str, value))
    return str(value)
