"""Comparing a partition's rows with what a scan of the service found. Pure.

A row is judged by the merge's own order, its version. Volatile columns are left out of it.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.connectors.catalog.merge import agrees, is_newer, keys_of, matched, newest
from ahi_catalog.connectors.catalog.verification import Finding
from ahi_catalog.connectors.rows import unlisted
from ahi_catalog.connectors.windows import Coverage
from ahi_catalog.schemas import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Where a partition and the service differ, by image set id.

    Attributes:
        missing: Found by the scan, and not in the partition.
        stale: Their row is older than what the scan found, and the change was to be followed by now.
        altered: Their row is of the very version that the scan found, and says something else.
        ahead: Their row is newer than what the scan found; another run may have published it meanwhile. With the
            version of the row, 0 where it has none.
        unlisted: Their row lies where the scan looked, and the scan did not find them.
        pending: How many rows are older than what the scan found, by a change that no run was to follow yet.
    """

    missing: list[str]
    stale: list[str]
    altered: list[str]
    ahead: Mapping[str, int]
    unlisted: list[str]
    pending: int


def compare(table: Table, existing: pa.Table, found: pa.Table, scanned: Coverage, followed_to: datetime) -> Comparison:
    """Compare the rows of a partition with those of a scan.

    Args:
        table: What the rows are of.
        existing: The partition's rows; of several of an image set the newest is judged.
        found: What the scan found, in the same columns.
        scanned: Ranges of createdAt whose every image set is among the rows found.
        followed_to: Changes before this moment are to be in the catalog; aware UTC.
    """
    there, listed = newest(table, existing), newest(table, found)
    old, new = matched(table, there, listed)
    judged = [name for name in table.schema.names if name not in table.volatile]
    is_behind, is_ahead = is_newer(table, listed, new, there, old), is_newer(table, there, old, listed, new)
    is_equal = pc.invert(pc.or_(is_behind, is_ahead))
    changed_at = pc.coalesce(listed["updated_at"], listed["created_at"]).take(new)
    is_due = pc.less(changed_at, pa.scalar(followed_to, changed_at.type))
    is_other = pc.invert(agrees(there, old, listed, new, judged))
    ids, known = listed["image_set_id"].take(new), keys_of(table, there)
    versions = pc.fill_null(there["version"].take(old), 0)
    return Comparison(
        missing=listed["image_set_id"].filter(pc.invert(pc.is_in(keys_of(table, listed), known))).to_pylist(),
        stale=ids.filter(pc.and_(is_behind, is_due)).to_pylist(),
        altered=ids.filter(pc.and_(is_other, is_equal)).to_pylist(),
        ahead=dict(zip(ids.filter(is_ahead).to_pylist(), versions.filter(is_ahead).to_pylist(), strict=True)),
        unlisted=unlisted(table, there, listed["image_set_id"], scanned),
        pending=len(ids.filter(pc.and_(is_behind, pc.invert(is_due)))),
    )


def compare_derived(table: Table, existing: pa.Table, found: pa.Table) -> Counter[Finding]:
    """Compare the rows of image sets in a table of metadata with those that were read again.

    A PHI policy may leave rows without a key, so rows are equal or not as a whole.

    Args:
        table: What the rows are of.
        existing: All that the table has of some image sets.
        found: All that their metadata says.
    """
    counts: Counter[Finding] = Counter()
    there, read = _by_image_set(table, existing), _by_image_set(table, found)
    for image_set_id in there.keys() | read.keys():
        ours, theirs = there[image_set_id], read[image_set_id]
        surplus = ours.total() - theirs.total()
        counts[Finding.MISSING] += max(-surplus, 0)
        counts[Finding.DELETED] += max(surplus, 0)
        is_stale = {version for version, _ in ours} - {version for version, _ in theirs}
        kind = Finding.STALE if is_stale else Finding.ALTERED
        counts[kind] += min(ours.total(), theirs.total()) - (ours & theirs).total()
    return +counts


def _by_image_set(table: Table, rows: pa.Table) -> dict[str, Counter[tuple[int | None, str]]]:
    """The rows of each image set as texts, with their version."""
    texts: dict[str, Counter[tuple[int | None, str]]] = defaultdict(Counter)
    for row in newest(table, rows).to_pylist():
        texts[row["image_set_id"]][row[table.version[0]], repr(row)] += 1
    return texts
