"""The columns: their declaration, and everything that follows from it.

Nothing here reads a clock, a network or a disk.
"""

from schemas.answers import Answer, MalformedSummaryError, Rows
from schemas.columns import COLUMNS, SCHEMA, Column, Sensitivity
from schemas.flattening import flatten, read, unparsable
from schemas.phi import PhiPolicy, Policy
from schemas.protection import Protect, protection
from schemas.pseudonyms import PhiKey

__all__ = [
    "COLUMNS",
    "SCHEMA",
    "Answer",
    "Column",
    "MalformedSummaryError",
    "PhiKey",
    "PhiPolicy",
    "Policy",
    "Protect",
    "Rows",
    "Sensitivity",
    "flatten",
    "protection",
    "read",
    "unparsable",
]
