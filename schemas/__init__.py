"""The columns: their declaration, and everything that follows from it.

Nothing here reads a clock, a network or a disk.
"""

from schemas.columns import COLUMNS, SCHEMA, Column, Sensitivity
from schemas.flattening import flatten, unparsable
from schemas.slow import MalformedSummaryError

__all__ = [
    "COLUMNS",
    "SCHEMA",
    "Column",
    "MalformedSummaryError",
    "Sensitivity",
    "flatten",
    "unparsable",
]
