"""The tables of docs/security.md: the Basic Profile of DICOM PS3.15 beside what a PHI policy does, column by column."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ahi_catalog.schemas import Policy, Sensitivity
from ahi_catalog.schemas.phi.policy import Action, action
from ahi_catalog.schemas.tables import Column

_PAGE = Path(__file__).parents[2] / "docs/security.md"
_KEPT = (Action.KEEP, Action.CODE, Action.DATE, Action.AGE)


class _Line(NamedTuple):
    tag: str
    basic: str
    option: str
    pseudonymize: str
    drop: str


def check_profile(title: str, columns: Iterable[Column]) -> None:
    """The table with that title has a line for each column that can tell of a patient, and for no other.

    Its tag is the one of the column's doc, where that has one, its actions are those of the policies, and
    `pseudonymize` keeps only what the Basic Profile does not list or an option allows to keep.
    """
    lines = _read_table(title)
    sensitive = {column.name: column for column in columns if column.sensitivity is not Sensitivity.NONE}
    assert lines.keys() == sensitive.keys()
    for name, column in sensitive.items():
        line, does = lines[name], action(Policy.PSEUDONYMIZE, column)
        assert (line.pseudonymize, line.drop) == (str(does), str(action(Policy.DROP, column)))
        if found := re.search(r"\([0-9]{4},[0-9A-F]{4}\)", column.doc):
            assert line.tag == found[0]
        assert does not in _KEPT or line.basic == "-" or line.option


def _read_table(title: str) -> dict[str, _Line]:
    """The lines below the header whose first cell is the title."""
    _, _, below = _PAGE.read_text(encoding="utf-8").partition(f"\n| {title} | attribute | basic | option |")
    table = below.partition("\n\n")[0].splitlines()[2:]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in table)
    return {name: _Line(*rest) for name, *rest in cells}
