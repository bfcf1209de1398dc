"""The facts that all counts derive from: one scan of a data store's objects into a narrow table of DuckDB.

Identifiers are hashed on their way in; no name, description, accession number or study ID is read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import duckdb
import pyarrow as pa

from ahi_catalog.connectors.catalog import Catalog
from ahi_catalog.connectors.catalog.dataset import open_dataset, refuse_damaged, store_failure
from ahi_catalog.connectors.errors import AhiCatalogError
from ahi_catalog.schemas import IMAGE_SETS

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
select make_timestamp(epoch_us(created_at)) as created,
       make_timestamp(epoch_us(coalesce(last_accessed_at, created_at))) as accessed,
       storage_tier as tier, is_primary, study_date,
       {_code("series_modality")} as modality, {_code("series_body_part")} as body_part,
       {_hashed("patient_id")} as patient_id, coalesce({_hashed("patient_id")}, hash(image_set_id)) as patient,
       {_hashed("study_instance_uid")} as study, {_hashed("series_instance_uid")} as series
from image_sets
"""  # noqa: S608  # made of our own columns

_UNPARSABLE: Final = """
select dicom_patient_birth_date, dicom_study_date, dicom_study_time,
       patient_birth_date, study_date, study_datetime, extra
from image_sets
where (dicom_patient_birth_date <> '' and patient_birth_date is null)
   or (dicom_study_date <> '' and study_date is null)
   or (dicom_study_time <> '' and study_datetime is null)
   or extra is not null
"""


class Facts:
    """The facts of one data store; made by `load`.

    Attributes:
        tells_patients: Whether patients, studies and series can be told apart; not under a policy that drops their
            identifiers.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, *, tells_patients: bool) -> None:
        self.tells_patients = tells_patients
        self._connection = connection

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The answer to a query over the table ``facts``: one row an image set.

        Its columns: created and accessed (UTC, without zone), tier, is_primary, study_date, modality and
        body_part (codes; '' where there is none, '?' where it is no code), patient (an image set without a
        Patient ID counts as a patient of its own), patient_id, study, series (hashed; null where there is none).
        """
        return self._connection.execute(sql, values).fetchall()

    def possibly_unparsable(self) -> pa.Table:
        """The texts, and what was parsed, of rows that have one which its column could not hold, and of some others."""
        return self._connection.sql(_UNPARSABLE).to_arrow_table()


@contextmanager
def load(catalog: Catalog, datastore_id: str) -> Iterator[Facts]:
    """The facts of a data store.

    Raises:
        AhiCatalogError: The objects cannot be read.
    """
    keys = [partition.key(IMAGE_SETS) for partition in catalog.partitions(datastore_id)]
    with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as connection:
        dataset = open_dataset(catalog, keys)
        connection.register("image_sets", dataset)
        failed = None
        try:
            connection.execute(_LOAD)
            yield Facts(connection, tells_patients=catalog.description.phi.tells_patients)
        except duckdb.Error as error:
            failed = type(error).__name__  # its text may quote a value
    if failed is not None:
        if (failure := store_failure(dataset)) is not None:
            raise failure
        refuse_damaged(catalog, keys)
        raise AhiCatalogError(f"the catalog cannot be counted ({failed})")
