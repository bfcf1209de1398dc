"""Rows of a table: which lie in given windows, which a scan did not find, and taking some of them out. Pure."""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.schemas import Table


def lies_in(moments: pa.ChunkedArray, windows: Iterable[Window]) -> pa.Array:
    """For each moment whether one of the windows has it.

    Args:
        moments: timestamp[us, UTC]; null lies nowhere.
        windows: Half-open ranges.
    """
    bounds = pa.array([bound for window in Coverage(windows) for bound in (window.start, window.end)], moments.type)
    # Among sorted bounds, a moment in a window has an odd number of them at or before it.
    passed = pc.search_sorted(bounds, moments, side="right")
    return pc.fill_null(pc.equal(pc.bit_wise_and(passed, 1), 1), False)


def pick(rows: pa.Table, picked: pa.ChunkedArray | pa.Array) -> pa.Table:
    """The rows that are picked; not copied where they are most of the table and lie side by side, as sorted rows do.

    A slice keeps the whole table in memory, so that a few rows are better copied.

    Args:
        rows: Any table.
        picked: A boolean for each row; null picks nothing.
    """
    places = pc.indices_nonzero(picked)
    if 2 * len(places) < len(rows) or len(places) == 0:
        return rows.filter(picked)
    first, last = places[0].as_py(), places[-1].as_py()
    return rows.slice(first, len(places)) if last - first < len(places) else rows.filter(picked)


def unlisted(table: Table, rows: pa.Table, listed: pa.ChunkedArray, scanned: Iterable[Window]) -> list[str]:
    """Ids of image sets that have a row where a scan looked, and that it did not find.

    Args:
        table: What the rows are of.
        rows: With the time of creation and the image set's id at least.
        listed: Ids of the image sets that the scan found.
        scanned: Where it looked: ranges of createdAt.
    """
    ids = rows["image_set_id"]
    found: list[str] = ids.filter(
        pc.and_(lies_in(rows[table.created], scanned), pc.invert(pc.is_in(ids, listed)))
    ).to_pylist()
    return found
