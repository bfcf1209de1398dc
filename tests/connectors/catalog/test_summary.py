"""What status knows of a catalog: never more problems than there are, and every one of them."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from ahi_catalog.connectors.catalog import Batch, Catalog, Checkpoint, Partition, Unit, layout, open_or_create, publish
from ahi_catalog.connectors.catalog.summary import Summary, summarize
from ahi_catalog.connectors.storage import Entry
from ahi_catalog.connectors.storage.local import LocalStore
from ahi_catalog.connectors.windows import Coverage
from ahi_catalog.schemas import IMAGE_SETS

ID = "0" * 32
DAY = datetime(2024, 2, 29, tzinfo=UTC)


class Publishing(LocalStore):
    """A folder in which another run publishes a partition whenever its objects have been listed."""

    other: Catalog | None = None
    published = 0

    def entries(self, prefix: str) -> Iterator[Entry]:
        listed = list(super().entries(prefix))
        if self.other is not None and prefix.startswith(IMAGE_SETS.folder):
            publish_day(self.other, date(2024, 3, 1) + timedelta(days=self.published))
            self.published += 1
        return iter(listed)


def publish_day(catalog: Catalog, day: date) -> None:
    """Publish one row of a day, then note it in the checkpoint, as a run does."""
    partition = Partition(ID, Unit.DAY, day)
    row = {"image_set_id": f"{day:%Y%m%d}", "created_at": partition.window.start}
    rows = pa.Table.from_pylist([row], IMAGE_SETS.schema)
    window = Coverage([partition.window])
    publish(catalog.store, Batch(table=IMAGE_SETS, partition=partition, rows=rows, scanned=window), lambda _: ())
    fresh = Checkpoint(datastore_id=ID, coverage=Coverage(), followed_to=DAY)
    catalog.update_checkpoint(ID, lambda found: (found or fresh).covering(window, window))


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """A catalog of one day."""
    catalog = open_or_create(Publishing(tmp_path), None)
    publish_day(catalog, DAY.date())
    return catalog


def status(catalog: Catalog) -> Summary:
    return summarize(catalog, ID, runs=5)


def test_a_partition_that_is_published_meanwhile_is_not_lost(catalog: Catalog) -> None:
    """A run adds an object after the listing, and notes it in the checkpoint: no problem is told."""
    store = catalog.store
    assert isinstance(store, Publishing)
    store.other = Catalog(LocalStore(Path(store.url)), catalog.description)
    assert status(catalog).problems == []
    assert store.published > 0


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"format": 1}', b'{"format": 99}'], ids=repr)
@pytest.mark.parametrize(
    ("key", "name"),
    [
        (layout.verification_key(ID), "verification"),
        (layout.run_key(ID, DAY, "abcdef01"), "run report"),
        (layout.checkpoint_key(ID), "checkpoint"),
    ],
)
def test_state_that_cannot_be_read_is_a_line_among_the_problems(
    catalog: Catalog, key: str, name: str, body: bytes
) -> None:
    """Damaged, or of a later version: the rest of the status is told all the same."""
    found = catalog.store.get(key)
    catalog.store.put(key, body, expected=found.etag if found else None)
    summary = status(catalog)
    assert (summary.rows, summary.partitions) == (1, 1)
    if name == "run report" and body == b'{"format": 1}':
        # Any fields will do.
        assert summary.runs == [{"format": 1}]
    else:
        [problem] = summary.problems
        assert name in problem
        assert "\n" not in problem
