"""`ahi-catalog query`."""

import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ahi_catalog.cli.opening import open_to_read, read_options
from ahi_catalog.cli.options import chosen_form, form_options, price_options
from ahi_catalog.cli.output import fits, json_text, make_table, pairs_table, print_json, show, visible
from ahi_catalog.cli.wording import in_shell_words
from ahi_catalog.connectors.errors import AhiCatalogError, QueryError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from ahi_catalog.connectors.catalog import Catalog

_SHOWN_ROWS: Final = 100
_SHOWN_RECORDS: Final = 10
_GROUPED_FROM: Final = 10_000
_MOST_DIGITS: Final = 9
_LARGEST: Final = 1e15
"""Numbers that are not shown digit by digit."""
_TIME: Final = re.compile(r"(.*)T([\d:]+)(\.\d+)?")
_BY_IDENTIFIER: Final = re.compile(r"\b(from|join)\s+(studies|patients|conflicts)\b", re.IGNORECASE)
_AROUND: Final = 60


class _Param(click.ParamType[tuple[str, str]]):
    """``name=value``, as a pair."""

    name = "param"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """The name and the text behind the equals sign."""
        name, equals, text = value.partition("=")
        if not name.isidentifier() or not equals:
            self.fail("this is a name and a value: day=2026-05-01", param, ctx)
        return name, text


@click.command()
@read_options
@form_options
@click.option(
    "--file",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="PATH",
    help="Read the SQL from there; -: stdin.",
)
@click.option(
    "--param",
    "params",
    type=_Param(),
    multiple=True,
    metavar="NAME=VALUE",
    help="What $NAME in the SQL stands for. Again for each.",
)
@price_options
@click.argument("sql", required=False)
def query(
    *,
    catalog: str,
    bucket_owner: str | None,
    allow_http: bool,
    frequent_price: float,
    archive_price: float,
    form: str | None,
    as_json: bool,
    file: str | None,
    params: Iterable[tuple[str, str]],
    sql: str | None,
) -> None:
    """Ask a catalog something in SQL (DuckDB's); with - the SQL comes from stdin.

    There are image_sets, one row each, series and instances of their metadata, the views studies, patients, conflicts,
    changes and storage, removals (what is gone, and when) and runs (the run reports). Columns:
    ahi-catalog query "describe studies"

    \b
    Series by modality:
      ahi-catalog query --catalog demo-catalog "select series_modality, count(*) from image_sets group by 1"
    Studies with CT and MR:
      ahi-catalog query --catalog demo-catalog "from studies where list_has_all(modalities, ['CT', 'MR'])"
    To a file:
      ahi-catalog query --catalog demo-catalog --format parquet "from image_sets" > all.parquet
    From a file, with a value that a shell need not quote for SQL:
      ahi-catalog query --catalog demo-catalog --file one-patient.sql --param "id=O'Brien 7"
    """
    from ahi_catalog.connectors.catalog.dataset import data_keys  # `--help` does without pyarrow
    from ahi_catalog.connectors.catalog.querying import run_query
    from ahi_catalog.schemas.views import StoragePrices

    form = chosen_form(form, as_json=as_json)
    text = _text(sql, file)
    opened = open_to_read(catalog, bucket_owner=bucket_owner, allow_http=allow_http)
    keys = data_keys(opened)
    with _showing_the_place(text):
        prices = StoragePrices(frequent=frequent_price, archive=archive_price)
        answer = run_query(opened, text, dict(params), prices=prices, keys=keys)
    if not opened.description.phi.tells_patients and _BY_IDENTIFIER.search(text):
        click.echo("This catalog keeps no identifiers (--phi drop): studies, patients, conflicts are empty.", err=True)
    _tell_lost(opened, keys)
    write_answer(answer, form, title="")


def _text(sql: str | None, file: str | None) -> str:
    """The SQL: as it is given, of a file, or of stdin."""
    if (sql is None) == (file is None):
        raise UsageError("give the SQL once: as an argument, as - with the SQL on stdin, or with --file")
    if sql is not None and sql != "-":
        return sql
    try:
        return sys.stdin.read() if file in {None, "-"} else Path(str(file)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"{file or 'stdin'} is no text that can be read") from None


@contextmanager
def _showing_the_place(sql: str) -> Iterator[None]:
    """Show where in a query an error was noticed: its line, and a caret below."""
    try:
        yield
    except QueryError as error:
        if error.place is None:
            raise
        start = sql.rfind("\n", 0, error.place) + 1
        column, number = error.place - start, sql.count("\n", 0, start) + 1
        cut = max(0, column - _AROUND)
        line = visible(sql[start:].partition("\n")[0][cut : column + _AROUND].replace("\t", " "))
        lead = f"line {number}: {'…' if cut else ''}"
        caret = " " * (len(lead) + len(visible(sql[start + cut : error.place].replace("\t", " ")))) + "^"
        raise UsageError(f"{error.message}\n{lead}{line}\n{caret}") from None


def _tell_lost(opened: "Catalog", keys: Sequence[str]) -> None:
    """Say what an answer lacks; it stands whatever becomes of this."""
    from ahi_catalog.connectors.catalog.summary import find_lost  # `--help` does without pyarrow
    from ahi_catalog.connectors.catalog.verification import repair_of

    try:
        for datastore_id, lost in find_lost(opened, keys).items():
            ranges, advice = ", ".join(map(str, lost)), in_shell_words(repair_of(lost))
            click.echo(
                f"Rows are missing: data objects of data store {datastore_id} are lost, {ranges}; {advice}", err=True
            )
    except AhiCatalogError as error:
        click.echo(f"Whether data objects are lost cannot be told: {in_shell_words(str(error))}", err=True)


def write_answer(answer: "pa.Table", form: str, *, title: str) -> None:
    """Write a table to stdout.

    Args:
        answer: The table.
        form: ``table`` (its first hundred rows), ``csv``, ``json`` or ``parquet``.
        title: Over a ``table``.
    """
    if form == "json":
        print_json(records(answer))
    elif form == "table":
        _show(answer, title)
    elif form == "csv":
        import pyarrow.csv

        pyarrow.csv.write_csv(_flat(answer), sys.stdout.buffer)
    else:
        import pyarrow.parquet

        pyarrow.parquet.write_table(answer, sys.stdout.buffer)


def records(answer: "pa.Table") -> list[dict[str, Any]]:
    """The rows of a table as JSON has them."""
    from ahi_catalog.cli.values import json_values

    columns = [json_values(column) for column in answer.columns]
    return [dict(zip(answer.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _show(answer: "pa.Table", title: str) -> None:
    """The first rows as a table; one below the other where that is too wide to read."""
    columns = [_shown_column(column) for column in answer.slice(0, _SHOWN_ROWS).columns]
    rows = list(zip(*columns, strict=True))
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
    """With bytes, lists and structures as JSON has them, since CSV has neither; and with times as text.

    They are UTC; of a zone's times Arrow would look into the machine's time zone database, which may be missing.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from ahi_catalog.cli.values import json_values

    for index, field in enumerate(answer.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz:
            naive = pc.cast(answer[index], pa.timestamp(field.type.unit))
            texts = pc.binary_join_element_wise(pc.cast(naive, pa.string()), "Z", "")
            answer = answer.set_column(index, field.name, texts)
        elif pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
            values = json_values(answer[index])
            texts = [value if isinstance(value, str | None) else json_text(value) for value in values]
            answer = answer.set_column(index, field.name, pa.array(texts, pa.string()))
    return answer


def _shown_column(column: "pa.ChunkedArray") -> list[str]:
    import pyarrow as pa

    from ahi_catalog.cli.values import json_values

    values = json_values(column)
    # A year, or a series' number, is no amount; but all of a column are written alike.
    is_grouped = any(isinstance(value, int | float) and abs(value) >= _GROUPED_FROM for value in values)
    # Decimals without a fraction come as whole numbers.
    digits = _digits(values) if any(isinstance(value, float) for value in values) else None
    shown = [_shown(value, is_grouped=is_grouped, digits=digits) for value in values]
    # Times to the second, and no T.
    return [_TIME.sub(r"\1 \2", text) for text in shown] if pa.types.is_timestamp(column.type) else shown


def _digits(values: Iterable[Any]) -> int | None:
    """Digits behind the point that a column needs to show four that count of its least; None: too many to show."""
    sizes = [abs(value) for value in values if isinstance(value, int | float) and value and math.isfinite(value)]
    exact = max((-int(Decimal(repr(size)).as_tuple().exponent) for size in sizes), default=0)
    needed = min(exact, max(2, 3 - math.floor(math.log10(min(sizes, default=1.0)))))
    return needed if needed <= _MOST_DIGITS and max(sizes, default=0) < _LARGEST else None


def _shown(value: Any, *, is_grouped: bool, digits: int | None) -> str:
    match value:
        case None:
            return ""
        case int() | float() if digits is not None:
            return f"{value:{',' if is_grouped else ''}.{digits}f}"
        case int() if is_grouped and not isinstance(value, bool):
            return f"{value:,}"
        case list():
            return ", ".join(item if isinstance(item, str) else json_text(item) for item in value)
        case dict():
            return json_text(value)
    return str(value)
