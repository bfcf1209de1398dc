"""Which image sets' metadata is to be read: what `series` and `instances` lack, and what a verify reads again.

What is lacking is the difference of two columns of two tables.

The tier guard: by default an image set is read only where it is in the frequent tier now. The catalog's tier is as old
as the last sync that saw it, and the service moves what nobody accessed for 30 days into the archive, so the last
access has to be younger.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from hashlib import blake2b
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.connectors.catalog import Catalog, Partition
from ahi_catalog.connectors.catalog.merge import origins_of
from ahi_catalog.connectors.catalog.publishing import read_object
from ahi_catalog.connectors.settings import Quota
from ahi_catalog.schemas import IMAGE_SETS, INSTANCES, SERIES, Table
from ahi_catalog.schemas.views import FREQUENT, GIGABYTE, LEAST_BYTES, StoragePrices

UNTOUCHED: Final = timedelta(days=30)
"""Without access, after which the service moves an image set into the archive
(https://docs.aws.amazon.com/healthimaging/latest/devguide/storage-tiers.html)."""
_LEAST_SAMPLE: Final = 10
"""Image sets of a partition that are sampled, where it has as many."""
_FACTS: Final = ("image_set_id", "version", "created_at", "updated_at", "last_accessed_at", "storage_tier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """What a partition lacks.

    Attributes:
        to_read: Image sets to read, newest first; in the columns of `image_sets` that the guard looks at.
        archived: Image sets that lack their series and are, or may be, in the archive.
        archived_bytes: As they are billed: what an earlier version's series say, at least the least.
        is_stale: Whether there are rows of image sets that are gone, or newer by now.
    """

    to_read: pa.Table = field(repr=False)
    archived: int
    archived_bytes: int
    is_stale: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Image sets of a partition whose metadata is read again.

    Attributes:
        partition: The partition.
        to_read: The image sets, in the columns of `image_sets` that the guard looks at.
        archived: How many are, or may be, in the archive, and so in no sample.
    """

    partition: Partition
    to_read: pa.Table = field(repr=False)
    archived: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataPlan:
    """What a reading would read; nothing is asked of the service.

    Attributes:
        image_sets: Those in the frequent tier that lack their series, a request each.
        archived: Those that are, or may be, in the archive.
        archived_bytes: Of these, as they are billed.
    """

    image_sets: int
    archived: int
    archived_bytes: int

    def hours(self, quota: Quota, *, with_archived: bool = False) -> float:
        """How long reading takes at a quota."""
        requests = self.image_sets + (self.archived if with_archived else 0)
        return max(requests - quota.burst, 0) / quota.rate / 3600

    def waking_dollars(self, prices: StoragePrices) -> float:
        """What the archived ones would cost more for the 30 days that they stay in the frequent tier."""
        return self.archived_bytes / GIGABYTE * (prices.frequent - prices.archive)


def plan_metadata(catalog: Catalog, datastore_id: str, at: datetime) -> MetadataPlan:
    """What a reading of a data store would read at a moment."""
    partitions = newest_first(catalog, datastore_id)
    looked = (find_lack(catalog, each, lambda _: at, with_archived=False) for each in partitions)
    found = [lack for lack in looked if lack]
    return MetadataPlan(
        image_sets=sum(len(lack.to_read) for lack in found),
        archived=sum(lack.archived for lack in found),
        archived_bytes=sum(lack.archived_bytes for lack in found),
    )


def newest_first(catalog: Catalog, datastore_id: str) -> list[Partition]:
    """The partitions that hold image sets of a data store."""
    return sorted(catalog.partitions(datastore_id), reverse=True)


def metadata_tables(catalog: Catalog) -> list[Table]:
    """The tables of metadata that a catalog keeps."""
    return [SERIES, INSTANCES] if catalog.description.has_instances else [SERIES]


def kept(catalog: Catalog) -> list[str]:
    """What a catalog keeps of metadata: its tables, and the keywords of the column `attributes`."""
    return [*(table.name for table in metadata_tables(catalog)), *sorted(catalog.description.keywords)]


def find_lack(
    catalog: Catalog, partition: Partition, at: Callable[[int], datetime], *, with_archived: bool
) -> Lack | None:
    """What a partition lacks; None where it lacks nothing.

    Args:
        catalog: The catalog.
        partition: The partition.
        at: When so many image sets will have been read, by the service's clock, aware; asked where some are lacking.
        with_archived: Whether archived image sets are to be read too.
    """
    image_sets, held = _look(catalog, partition)
    wanted = origins_of(IMAGE_SETS, image_sets)
    lacking = image_sets.filter(pc.invert(pc.is_in(wanted, _complete(catalog, held))))
    stale = any(not pc.all(pc.is_in(origins_of(t, rows), wanted), min_count=0).as_py() for t, rows in held.items())
    if not (len(lacking) or stale):
        return None
    is_frequent = _is_frequent(lacking, at(len(lacking))) if len(lacking) else pa.array([], pa.bool_())
    to_read = lacking if with_archived else lacking.filter(is_frequent)
    archived = lacking.filter(pc.invert(is_frequent))
    return Lack(
        to_read=to_read.sort_by([("created_at", "descending"), ("image_set_id", "ascending")]),
        archived=len(archived),
        archived_bytes=_billed(archived, held[SERIES]) if len(archived) else 0,
        is_stale=stale,
    )


def samples(
    catalog: Catalog,
    datastore_id: str,
    at: Callable[[int], datetime],
    *,
    share: float,
    seed: str,
    read_to: datetime,
    with_changed: bool,
    has: Callable[[Partition], bool],
) -> Iterator[Sample]:
    """What a verify reads again: of each partition a share of the image sets, and ten at least.

    Of those that have their rows, and of those that the last reading should have met. Which ones follows from their
    ids and the seed.

    Args:
        catalog: The catalog.
        datastore_id: The data store.
        at: When so many image sets will have been read, by the service's clock, aware; asked where some are to be.
        share: Of a partition's image sets; above 0, at most 1.
        seed: Another one names another sample.
        read_to: What has not changed since this moment should have its rows; aware.
        with_changed: Whether those are among them whose rows are of an earlier version.
        has: The partitions that are asked for.
    """
    for partition in filter(has, newest_first(catalog, datastore_id)):
        image_sets, held = _look(catalog, partition)
        has_rows = pc.is_in(origins_of(IMAGE_SETS, image_sets), _complete(catalog, held))
        if with_changed:
            has_rows = pc.is_in(image_sets["image_set_id"], held[SERIES]["image_set_id"])
        known = image_sets.filter(pc.or_(has_rows, pc.invert(_is_used_since(image_sets, read_to))))
        if not len(known):
            continue
        readable = known.filter(_is_frequent(known, at(max(math.ceil(share * len(known)), _LEAST_SAMPLE))))
        count = max(math.ceil(share * len(readable)), _LEAST_SAMPLE)
        ids = enumerate(readable["image_set_id"].to_pylist())
        by_hash = sorted((blake2b(f"{seed} {name}".encode(), digest_size=8).digest(), place) for place, name in ids)
        places = pa.array(sorted(place for _, place in by_hash[:count]), pa.int64())
        yield Sample(partition=partition, to_read=readable.take(places), archived=len(known) - len(readable))


def _look(catalog: Catalog, partition: Partition) -> tuple[pa.Table, dict[Table, pa.Table]]:
    """The image sets of a partition, and what the tables of their metadata have of them."""
    held = {table: _held(catalog, table, partition) for table in metadata_tables(catalog)}
    # `image_sets` is read last: what another run has read for it meanwhile is no row too many.
    return _columns(catalog, IMAGE_SETS, partition, _FACTS), held


def _columns(catalog: Catalog, table: Table, partition: Partition, names: Iterable[str]) -> pa.Table:
    key = partition.key(table)
    return read_object(table, key, catalog.store.get(key), list(names))


def _held(catalog: Catalog, table: Table, partition: Partition) -> pa.Table:
    more = ("instances", "bytes", "attributes") if table is SERIES else ()
    return _columns(catalog, table, partition, ("image_set_id", "image_set_version", *more))


def _complete(catalog: Catalog, held: Mapping[Table, pa.Table]) -> pa.ChunkedArray:
    """What `origins_of` says of image sets that have all that the catalog keeps of them."""
    series = held[SERIES]
    for keyword in catalog.description.keywords:
        # Every row says something of each keyword that was kept when it was read, be it null.
        has_it = pc.match_substring(series["attributes"], f'"{keyword}":')
        series = series.filter(pc.fill_null(has_it, False))
    origins = origins_of(SERIES, series)
    if not catalog.description.has_instances:
        return origins
    has_them = pc.is_in(origins, origins_of(INSTANCES, held[INSTANCES]))
    return origins.filter(pc.or_(has_them, pc.equal(series["instances"], 0)))


def _is_frequent(image_sets: pa.Table, at: datetime) -> pa.ChunkedArray:
    """Whether each image set is surely in the frequent tier at a moment."""
    is_used = _is_used_since(image_sets, at - UNTOUCHED)
    return pc.fill_null(pc.and_kleene(is_used, pc.equal(image_sets["storage_tier"], FREQUENT)), False)


def _is_used_since(image_sets: pa.Table, moment: datetime) -> pa.ChunkedArray:
    """Whether each image set was created, changed or accessed after a moment, as far as the catalog knows."""
    since = pa.scalar(moment, image_sets["created_at"].type)
    used = [pc.greater(image_sets[name], since) for name in ("created_at", "updated_at", "last_accessed_at")]
    return pc.fill_null(reduce(pc.or_kleene, used), False)


def _billed(image_sets: pa.Table, series: pa.Table) -> int:
    """The bytes of image sets as storage is billed, as far as their series are known."""
    least = LEAST_BYTES * len(image_sets)
    known = series.group_by("image_set_id").aggregate([("bytes", "sum")])
    known = known.filter(pc.is_in(known["image_set_id"], image_sets["image_set_id"]))
    beyond = pc.subtract(pc.max_element_wise(known["bytes_sum"], LEAST_BYTES), LEAST_BYTES)
    return least + int(pc.sum(beyond, min_count=0).as_py())
