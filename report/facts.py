"""The facts that counts derive from: one scan of a data store's objects into a narrow table of DuckDB.

Identifiers are hashed on their way in; no name, description, accession number or study ID is read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import duckdb

from ahi_catalog.connectors.catalog import Catalog
from ahi_catalog.connectors.catalog.dataset import open_dataset, refuse_damaged, store_failure
from ahi_catalog.connectors.errors import AhiCatalogError
from ahi_catalog.schemas import IMAGE_SETS, SERIES
from ahi_catalog.schemas.views import FREQUENT, GIGABYTE, LEAST_BYTES, StoragePrices

_TABLES: Final = (IMAGE_SETS, SERIES)
_OTHER: Final = "?"
"""What stands for a code that is none: text in the place of a code may be anything, a name too."""

_CODE: Final = r"'^[A-Z0-9 _]{1,16}$'"
"""The form of a code: DICOM PS3.5 section 6.2, value representation CS."""


def _unpadded(column: str) -> str:
    """Without the blanks and NULs around it, the padding of DICOM's strings (PS3.5 section 6.2)."""
    return f"trim({column}, ' ' || chr(0))"


def _hashed(column: str) -> str:
    return f"case when {_unpadded(column)} <> '' then hash({_unpadded(column)}) end"


def _code(column: str) -> str:
    text = f"upper({_unpadded(column)})"
    return (
        f"case when coalesce({text}, '') = '' then '' when regexp_matches({text}, {_CODE}) then {text} "
        f"else '{_OTHER}' end"
    )


_LOAD: Final = f"""
create temp table facts as
select *, gigabytes * price as dollars, gigabytes * (price - $archive) as saves
from (
select make_timestamp(epoch_us(created_at)) as created,
       make_timestamp(epoch_us(coalesce(last_accessed_at, created_at))) as accessed,
       storage_tier as tier, is_primary, study_date,
       {_code("series_modality")} as modality, {_code("series_body_part")} as body_part,
       {_hashed("patient_id")} as patient_id, coalesce({_hashed("patient_id")}, hash(image_set_id)) as patient,
       {_hashed("study_instance_uid")} as study, {_hashed("series_instance_uid")} as series,
       bytes is not null as is_read, greatest(coalesce(bytes, 0), {LEAST_BYTES}) / {GIGABYTE} as gigabytes,
       case when storage_tier = '{FREQUENT}' then $frequent when storage_tier is not null then $archive end as price
from image_sets left join (select image_set_id, sum(bytes) as bytes from series group by 1) using (image_set_id)
)
"""  # noqa: S608  # made of our own columns


class Facts:
    """The facts of one data store; made by `load`.

    Attributes:
        tells_patients: Whether patients, studies and series can be told apart; not under a policy that drops their
            identifiers.
        has_metadata: Whether the metadata of any image set was read.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, *, tells_patients: bool, has_metadata: bool) -> None:
        self.tells_patients = tells_patients
        self.has_metadata = has_metadata
        self._connection = connection

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The answer to a query over the table ``facts``: one row an image set.

        Its columns: created and accessed (UTC, without zone), tier, is_primary, study_date, modality and
        body_part (codes; '' where there is none, '?' where it is no code), patient (an image set without a
        Patient ID counts as a patient of its own), patient_id, study, series (hashed; null where there is none),
        is_read (its metadata), gigabytes (as billed), dollars (a month) and saves (in the archive; both null where the
        tier is not known).
        """
        return self._connection.execute(sql, values).fetchall()


@contextmanager
def load(catalog: Catalog, datastore_id: str, prices: StoragePrices) -> Iterator[Facts]:
    """The facts of a data store.

    Args:
        catalog: The catalog.
        datastore_id: The data store.
        prices: Of storage.

    Raises:
        AhiCatalogError: The objects cannot be read.
    """
    keys = {table: [each.key(table) for each in catalog.partitions(datastore_id, table)] for table in _TABLES}
    datasets = {table: open_dataset(catalog, keys[table], table) for table in _TABLES}
    with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as connection:
        for table, dataset in datasets.items():
            connection.register(table.name, dataset)
        failed = None
        try:
            connection.execute(_LOAD, {"frequent": prices.frequent, "archive": prices.archive})
            tells_patients = catalog.description.phi.tells_patients
            yield Facts(connection, tells_patients=tells_patients, has_metadata=bool(keys[SERIES]))
        except duckdb.Error as error:
            failed = type(error).__name__  # its text may quote a value
    if failed is not None:
        for table, dataset in datasets.items():
            if (failure := store_failure(dataset)) is not None:
                raise failure
            refuse_damaged(catalog, keys[table], table)
        raise AhiCatalogError(f"the catalog cannot be counted ({failed})")
