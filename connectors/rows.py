"""Which rows of a table lie in given windows. Pure."""

from collections.abc import Iterable
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from connectors.windows import Window


def lies_in(moments: pa.ChunkedArray, windows: Iterable[Window]) -> pa.ChunkedArray:
    """For each moment whether one of the windows has it.

    Args:
        moments: timestamp[us, UTC]; null lies nowhere.
        windows: Half-open ranges.
    """

    def lies_in_one(window: Window) -> pa.ChunkedArray:
        start, end = (pa.scalar(bound, moments.type) for bound in (window.start, window.end))
        return pc.fill_null(pc.and_(pc.greater_equal(moments, start), pc.less(moments, end)), False)

    nowhere = pa.chunked_array([pa.repeat(False, len(moments))])
    return reduce(pc.or_, (lies_in_one(window) for window in windows), nowhere)
