"""What a row is: the declared tables, and everything that follows from their declaration.

Nothing here reads a clock, a network or a disk.
"""

from ahi_catalog.schemas.decoding import flatten, read, unknown_fields, unparsable
from ahi_catalog.schemas.decoding.answer import Answer, MalformedSummaryError, Rows
from ahi_catalog.schemas.image_sets import IMAGE_SETS
from ahi_catalog.schemas.phi.policy import PhiPolicy, Policy
from ahi_catalog.schemas.phi.protection import Protect, protection
from ahi_catalog.schemas.phi.pseudonyms import PhiKey
from ahi_catalog.schemas.removals import REMOVALS
from ahi_catalog.schemas.series import INSTANCES, SERIES
from ahi_catalog.schemas.tables import Column, Sensitivity, Table

__all__ = [
    "IMAGE_SETS",
    "INSTANCES",
    "REMOVALS",
    "SERIES",
    "Answer",
    "Column",
    "MalformedSummaryError",
    "PhiKey",
    "PhiPolicy",
    "Policy",
    "Protect",
    "Rows",
    "Sensitivity",
    "Table",
    "flatten",
    "protection",
    "read",
    "unknown_fields",
    "unparsable",
]
