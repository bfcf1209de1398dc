"""Keywords of the DICOM dictionary (PS3.6) that a catalog keeps beside the columns of `series`, by pydicom's tables."""

from collections.abc import Iterable
from typing import Final

from ahi_catalog.schemas.series import ATTRIBUTES, INSTANCES, SERIES

_DECLARED: Final = frozenset(a.keyword for a in ATTRIBUTES) | {
    column.source[-1] for table in (SERIES, INSTANCES) for column in table.columns if column.source
}
_UNKEPT: Final = frozenset({"SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW", "AT"})


def value_representations(keywords: Iterable[str]) -> dict[str, str]:
    """The VR of each keyword.

    Raises:
        ValueError: One is no keyword of the dictionary, holds no plain values, or has a column already.
    """
    # It takes a fifth of a second, and only a catalog's first run with a keyword needs it.
    from pydicom.datadict import dictionary_VR, tag_for_keyword  # noqa: PLC0415

    found = {}
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError(f"{keyword} is no keyword of the DICOM dictionary; it is written like ExposureTime")
        if keyword in _DECLARED:
            raise ValueError(f"{keyword} has a column of its own")
        vr = dictionary_VR(tag)
        if vr in _UNKEPT:
            raise ValueError(f"{keyword} holds no plain values (its VR is {vr})")
        found[keyword] = vr.partition(" ")[0]  # "US or SS": numbers, either way
    return found
