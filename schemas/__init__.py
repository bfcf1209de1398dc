"""The columns: their declaration, and everything that follows from it.

Nothing here reads a clock, a network or a disk.
"""

from schemas.columns import COLUMNS, SCHEMA, Column, Sensitivity
from schemas.flattening import flatten, unparsable
from schemas.phi import PhiPolicy, Policy
from schemas.protection import Protect, protection
from schemas.pseudonyms import PhiKey
from schemas.slow import MalformedSummaryError

__all__ = [
    "COLUMNS",
    "SCHEMA",
    "Column",
    "MalformedSummaryError",
    "PhiKey",
    "PhiPolicy",
    "Policy",
    "Protect",
    "Sensitivity",
    "flatten",
    "protection",
    "unparsable",
]
