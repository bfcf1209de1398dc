"""What other engines are told of a catalog: its location, its data stores, its first day."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from ahi_catalog.connectors.catalog import Catalog, Checkpoint, Partition, Unit, open_or_create
from ahi_catalog.connectors.catalog.external import describe
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.storage import LocalStore, Store
from ahi_catalog.connectors.storage.memory import MemoryStore
from ahi_catalog.connectors.windows import Coverage, Window
from ahi_catalog.schemas import IMAGE_SETS

ONE, TWO = "a" * 32, "b" * 32


class S3Like(MemoryStore):
    """In memory, with a URL on S3."""

    @property
    def url(self) -> str:
        return "s3://bucket/imaging"


def covered(catalog: Catalog, datastore_id: str, *days: tuple[int, int, int]) -> None:
    """Give a data store a checkpoint that covers some days, and nothing where there are none."""
    windows = [Window(datetime(*day, tzinfo=UTC), datetime(*day, 12, tzinfo=UTC)) for day in days]
    checkpoint = Checkpoint(
        datastore_id=datastore_id, coverage=Coverage(windows), followed_to=datetime(2024, 6, 1, tzinfo=UTC)
    )
    catalog.update_checkpoint(datastore_id, lambda _: checkpoint)


def test_the_first_day_is_the_first_covered_or_published() -> None:
    """Coverage counts, which begins before the first image set; and so does an older partition."""
    catalog = open_or_create(S3Like(), Unit.DAY)
    covered(catalog, ONE, (2024, 3, 1), (2023, 5, 2))
    covered(catalog, TWO)
    found = describe(catalog, "athena", database="imaging")
    assert (found.first_day, found.datastore_ids, found.partition_key) == (date(2023, 5, 2), (ONE,), "created_date")
    catalog.store.put(Partition(TWO, Unit.DAY, date(2022, 1, 31)).key(IMAGE_SETS), b"", expected=None)
    found = describe(catalog, "athena")
    assert (found.first_day, found.datastore_ids) == (date(2022, 1, 31), (ONE, TWO))
    assert describe(catalog, "athena", injected=True).datastore_ids == ()


@pytest.mark.parametrize(
    ("store", "engine", "location"),
    [
        (S3Like(), "athena", "s3://bucket/imaging/image_sets"),
        (S3Like(), "duckdb", "s3://bucket/imaging/image_sets"),
        (S3Like(), "spark", "s3a://bucket/imaging/image_sets"),
        (LocalStore(Path("FOLDER")), "duckdb", "{url}/image_sets"),
        (LocalStore(Path("FOLDER")), "spark", "file:{url}/image_sets"),
    ],
)
def test_each_engine_gets_the_location_as_it_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store, engine: str, location: str
) -> None:
    """S3 is s3a to Spark, and a folder is a file: URL to it."""
    monkeypatch.chdir(tmp_path)
    if isinstance(store, LocalStore):
        store = LocalStore(tmp_path)
    catalog = open_or_create(store, Unit.MONTH)
    covered(catalog, ONE, (2024, 3, 1))
    assert describe(catalog, engine).location == location.format(url=store.url)
    assert describe(catalog, engine).partition_key == "created_month"


def test_a_catalog_that_cannot_be_described_says_why(tmp_path: Path) -> None:
    """An empty one has no first day, and Athena reads no folder."""
    catalog = open_or_create(LocalStore(tmp_path), None)
    with pytest.raises(UsageError, match="sync it first"):
        describe(catalog, "duckdb")
    covered(catalog, ONE, (2024, 3, 1))
    with pytest.raises(UsageError, match="Athena reads S3 only"):
        describe(catalog, "athena")
