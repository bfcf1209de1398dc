"""Catalogs made of rows, for reports."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ahi_catalog.connectors.catalog import Batch, Catalog, Checkpoint, Unit, open_or_create, open_store, publish
from ahi_catalog.connectors.catalog.layout import partition_rows
from ahi_catalog.connectors.catalog.publishing import renew_partition
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.schemas import IMAGE_SETS, SERIES, PhiKey, PhiPolicy, Policy, protection

ID = "0" * 31 + "a"
MakeCatalog = Callable[..., Catalog]


def row(number: int, **values: Any) -> dict[str, Any]:
    """A row of its own patient, study and series, created on the first of May 2024."""
    return {
        "image_set_id": f"{number:032d}",
        "version": 1,
        "created_at": datetime(2024, 5, 1, 8, tzinfo=UTC),
        "storage_tier": "FREQUENT_ACCESS",
        "is_primary": True,
        "patient_id": f"patient-{number}",
        "study_instance_uid": f"1.2.{number}",
        "series_instance_uid": f"1.2.{number}.1",
        "series_modality": "CT",
        "series_body_part": "CHEST",
        **values,
    }


def publish_rows(
    place: Path | str,
    rows: Sequence[dict[str, Any]],
    datastore_id: str = ID,
    unit: Unit = Unit.DAY,
    phi: Policy = Policy.KEEP,
) -> Catalog:
    """A catalog with these rows under a PHI policy, which covers May and June 2024."""
    key = PhiKey(bytes(range(32))) if phi is Policy.PSEUDONYMIZE else None
    policy = PhiPolicy(policy=phi, key_check=key.check if key else None)
    catalog = open_or_create(open_store(str(place)), unit, policy)
    table = protection(IMAGE_SETS, policy, key)(pa.Table.from_pylist(list(rows), schema=IMAGE_SETS.schema))
    for partition, part in partition_rows(IMAGE_SETS, datastore_id, unit, table):
        publish(
            catalog.store, Batch(table=IMAGE_SETS, partition=partition, rows=part, scanned=Coverage()), lambda _: ()
        )
    covered = Coverage([Window(datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC))])
    made = Checkpoint(datastore_id=datastore_id, coverage=covered, followed_to=datetime(2024, 7, 1, tzinfo=UTC))
    catalog.update_checkpoint(datastore_id, lambda _: made)
    return catalog


def publish_series(catalog: Catalog, rows: Sequence[dict[str, Any]], size: int, datastore_id: str = ID) -> None:
    """Metadata of image sets that the catalog has: a series of so many bytes each."""
    names = ("image_set_id", "created_at", "series_instance_uid")
    series = [{name: each[name] for name in names} | {"image_set_version": 1, "bytes": size} for each in rows]
    table = pa.Table.from_pylist(series, schema=SERIES.schema)
    for partition, part in partition_rows(SERIES, datastore_id, catalog.description.unit, table):
        renew_partition(catalog.store, SERIES, partition, part)


@pytest.fixture
def make_catalog(tmp_path: Path) -> MakeCatalog:
    """Makes a catalog of rows."""
    return partial(publish_rows, tmp_path / "catalog")
