"""What `status` counts: told as far as it can be, whatever is damaged."""

from datetime import UTC, date, datetime, timedelta

import pytest

from ahi_catalog.connectors.catalog import Catalog, Checkpoint, Partition, Unit, layout, open_or_create, parquet
from ahi_catalog.connectors.catalog.summary import summarize
from ahi_catalog.connectors.catalog.verification import Verification
from ahi_catalog.connectors.storage import MemoryStore, Stored
from ahi_catalog.connectors.windows import Coverage
from ahi_catalog.schemas import IMAGE_SETS

ID = "0" * 32
DAY = datetime(2024, 2, 29, tzinfo=UTC)
RUN = {
    "format": 1,
    "flow": "sync",
    "outcome": "done",
    "started_at": "2024-02-29T00:00:00Z",
    **dict.fromkeys(("requests", "throttles", "retries", "new", "updated", "removed", "seconds"), 1),
}
FIRST, SECOND = (Partition(ID, Unit.DAY, date(2024, 2, day)) for day in (28, 29))


def put_rows(catalog: Catalog, partition: Partition) -> None:
    """The object of a partition, and the checkpoint that says that it is there."""
    catalog.store.put(
        partition.key(IMAGE_SETS), parquet.encode(IMAGE_SETS, IMAGE_SETS.schema.empty_table()), expected=None
    )
    fresh = Checkpoint(datastore_id=ID, coverage=Coverage(), followed_to=DAY)
    catalog.update_checkpoint(ID, lambda found: (found or fresh).with_coverage([partition.window], [partition.window]))


def made(store: MemoryStore) -> Catalog:
    """A catalog of one partition with all that lies beside it."""
    catalog = open_or_create(store, None)
    put_rows(catalog, FIRST)
    verification = Verification(
        run_id="r", asked=".. part 1/1", started_at=DAY, is_repairing=False, windows=Coverage([FIRST.window])
    )
    catalog.keep_verification(ID, verification)
    for hour in range(2):
        catalog.write_run(layout.run_key(ID, DAY + timedelta(hours=hour), "abcdef01"), RUN)
    return catalog


class Busy(MemoryStore):
    """A store into which a run publishes a partition as soon as another one's checkpoint has been read."""

    catalog: Catalog | None = None

    def get(self, key: str) -> Stored | None:
        found = super().get(key)
        if self.catalog is not None and key == layout.checkpoint_key(ID):
            catalog, self.catalog = self.catalog, None
            put_rows(catalog, SECOND)
        return found


def test_a_partition_published_meanwhile_is_not_called_lost() -> None:
    """Objects are listed after the checkpoint is read, so each one that it names is among them."""
    store = Busy()
    store.catalog = made(store)
    summary = summarize(store.catalog, ID, runs=5)
    assert (summary.problems, summary.partitions) == ([], 2)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (layout.checkpoint_key(ID), "the checkpoint"),
        (layout.verification_key(ID), "the state of the last verification"),
        (layout.run_key(ID, DAY, "abcdef01"), "the run report"),
    ],
)
@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff", b'{"format": 1}', b'{"format": 2}', b'{"format": "1"}'])
def test_what_is_damaged_beside_the_data_is_a_problem(key: str, says: str, body: bytes) -> None:
    """Damaged or of a later version: one line names it, and all else is told."""
    store = MemoryStore()
    catalog = made(store)
    found = store.get(key)
    assert found is not None
    store.put(key, body, expected=found.etag)
    summary = summarize(catalog, ID, runs=5)
    [problem] = summary.problems
    assert says in problem
    assert ("upgrade" in problem) == (body == b'{"format": 2}')
    assert summary.partitions == 1
    assert len(summary.runs) == (1 if "/runs/" in key else 2)
    assert (summary.verification is None) == ("verification" in key)
    assert (summary.watermark is None) == ("checkpoint" in key)
