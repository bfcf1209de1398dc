"""What people and machines see: tables and JSON on stdout, everything else on stderr.

Colours are rich's: off where stdout is no terminal or NO_COLOR is set, on where FORCE_COLOR is.
"""

import json
import math
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_FILE_WIDTH: Final = 160
_ANY_WIDTH: Final = 1 << 20
# C0 and C1 controls but tab and line end, what turns the direction of writing, and bytes of names that are no text.
_NUMBER: Final = re.compile(r"-?[\d,]+(\.\d+)?(e[+-]?\d+)?")
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json_text(document, indent=2))


def json_text(document: Any, *, indent: int | None = None) -> str:
    """A document as JSON that every reader reads: null for NaN and the infinities, which JSON does not have."""
    return json.dumps(_finite(document), indent=indent, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
    return value


def visible(text: str) -> str:
    r"""The text with its control characters written out (``\x1b``): a value must not steer the terminal."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def counted(count: int, one: str, several: str) -> str:
    """A number and what it counts: ``1 pass``, ``2 passes``."""
    return f"{count:,} {one if count == 1 else several}"


def print_pairs(title: str, pairs: Iterable[tuple[str, str]]) -> None:
    """A small table of labels and values on stdout."""
    show(pairs_table(title, pairs))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout; text is shown as it is, never read as markup."""
    show(make_table(title, columns, rows))


def show(what: "RenderableType") -> None:
    """Something of rich's on stdout, folded where it is too long for the terminal."""
    _console().print(what)


def fits(what: "RenderableType") -> bool:
    """Whether something can be shown without folding it."""
    from rich.measure import Measurement  # `--help` does without rich

    console = _console()
    needed = Measurement.get(console, console.options.update(max_width=_ANY_WIDTH), what).maximum
    return needed <= console.width


def _console() -> "Console":
    """Rich's console on stdout: as wide as the terminal, or as two pages where it is none."""
    from rich.console import Console  # `--help` does without rich

    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else _FILE_WIDTH
    return Console(width=width)


def pairs_table(title: str, pairs: Iterable[tuple[str, str]]) -> "RenderableType":
    """A small table of labels and values."""
    return make_table(title, ("", ""), pairs, header=False)


def make_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, header: bool = True, is_dense: bool = False
) -> "RenderableType":
    """A table; text is shown as it is, never read as markup; columns of numbers end alike.

    Args:
        title: Over it.
        columns: Their names.
        rows: As many cells as there are columns, each.
        header: Whether to show the names.
        is_dense: Whether to leave a single space between columns, for many in 80.
    """
    from rich import box  # `--help` does without rich
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD,
        show_header=header,
        show_edge=not is_dense,
        pad_edge=False,
        padding=(0, 0 if is_dense else 1),
    )
    rows = list(rows)
    for number, name in enumerate(columns):
        cells = [row[number] for row in rows if row[number]]
        is_number = header and bool(cells) and all(map(_NUMBER.fullmatch, cells))
        table.add_column(Text(visible(name)), overflow="fold", justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*(Text(visible(value)) for value in row))
    return Group(Text(title, style="bold"), table) if title else table
