"""What the decoders and the PHI policy have to agree on: which text is held, how JSON is written, what is a number."""

import json
from typing import Any, Final

FLOAT_VRS: Final = frozenset({"DS", "FD", "FL"})
INTEGER_VRS: Final = frozenset({"IS", "SL", "SS", "SV", "UL", "US", "UV"})
"""The value representations of numbers (DICOM PS3.5 section 6.2)."""


def unicode_text(value: Any) -> str | None:
    """The value where it is a text that Arrow can hold: one of Unicode, without lone surrogates."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def as_json(value: Any) -> str:
    """JSON in ASCII with sorted keys: the same text whatever the order of the fields, and room for lone surrogates."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
