"""What people and machines see: tables and JSON on stdout, everything else on stderr."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click

# C0 and C1 controls but tab and line end, and what turns the direction of writing.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(document, indent=2, default=str))


def visible(text: str) -> str:
    r"""The text with its control characters written out (``\x1b``): a value must not steer the terminal."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def print_pairs(title: str, pairs: Iterable[tuple[str, str]]) -> None:
    """A small table of labels and values on stdout."""
    print_table(title, ("", ""), pairs, header=False)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, header: bool = True) -> None:
    """A table on stdout; text is shown as it is, never read as markup."""
    from rich import box  # `--help` does without rich
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if title:
        console.print(Text(title, style="bold"))
    table = Table(box=box.SIMPLE_HEAD, show_header=header, pad_edge=False, padding=(0, 1))
    for name in columns:
        table.add_column(Text(visible(name)), overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(value)) for value in row))
    console.print(table)
