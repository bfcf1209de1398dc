"""The columns: their declaration, and everything that follows from it.

Nothing here reads a clock, a network or a disk.
"""

from ahi_catalog.schemas.answers import Answer, MalformedSummaryError, Rows
from ahi_catalog.schemas.columns import COLUMNS, SCHEMA, Column, Sensitivity
from ahi_catalog.schemas.flattening import flatten, read, unparsable
from ahi_catalog.schemas.phi.policy import PhiPolicy, Policy
from ahi_catalog.schemas.phi.protection import Protect, protection
from ahi_catalog.schemas.phi.pseudonyms import PhiKey

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
