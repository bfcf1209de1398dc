"""A catalog: its description, its partitions, the checkpoints and run reports of its data stores."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from connectors.catalog import checkpoint as checkpoints
from connectors.catalog import description as descriptions
from connectors.catalog import layout
from connectors.catalog.checkpoint import Checkpoint
from connectors.catalog.conflicts import until_it_wins
from connectors.catalog.description import Description
from connectors.catalog.layout import Partition, Unit
from connectors.catalog.phi import refuse_other
from connectors.catalog.store import Entry, Store
from connectors.errors import ConflictError, UsageError
from schemas import PhiPolicy

_RUN_FORMAT: Final = 1


class Catalog:
    """The Parquet table and its state.

    Args:
        store: Where it lies.
        description: What was fixed when it was created.
    """

    def __init__(self, store: Store, description: Description) -> None:
        self.store = store
        self.description = description

    def checkpoint(self, datastore_id: str) -> Checkpoint | None:
        """The checkpoint of a data store; None where nothing was ever synced.

        Raises:
            StateError: It is damaged.
        """
        stored = self.store.get(layout.checkpoint_key(datastore_id))
        return checkpoints.decode(stored.body, datastore_id) if stored else None

    def update_checkpoint(self, datastore_id: str, change: Callable[[Checkpoint | None], Checkpoint]) -> Checkpoint:
        """Replace the checkpoint by a compare-and-swap; on a conflict read, change and swap again.

        Args:
            datastore_id: The data store.
            change: The new checkpoint, given the one that is there now. Called again on each conflict.
        """
        return until_it_wins(self._swap_checkpoint, datastore_id, change)

    def _swap_checkpoint(self, datastore_id: str, change: Callable[[Checkpoint | None], Checkpoint]) -> Checkpoint:
        key = layout.checkpoint_key(datastore_id)
        stored = self.store.get(key)
        before = checkpoints.decode(stored.body, datastore_id) if stored else None
        after = change(before)
        if after != before:
            self.store.put(key, checkpoints.encode(after), expected=stored.etag if stored else None)
        return after

    def datastore_ids(self) -> list[str]:
        """The data stores that the catalog has a checkpoint of, sorted."""
        keys = {entry.key for entry in self.store.entries(layout.STATE)}
        candidates = {key.split("/")[1].removeprefix("datastore_id=") for key in keys if key.count("/") > 1}
        return sorted(found for found in candidates if layout.checkpoint_key(found) in keys)

    def partitions(self, datastore_id: str) -> dict[Partition, Entry]:
        """The partitions of a data store that have an object."""
        entries = self.store.entries(layout.table_prefix(datastore_id))
        return {found: entry for entry in entries if (found := layout.parse_partition(entry.key))}

    def write_run(self, key: str, report: dict[str, Any]) -> None:
        """Keep a run report: counts, never rows."""
        self.store.put(key, json.dumps(report, indent=1).encode() + b"\n", expected=None)

    def runs(self, datastore_id: str, last: int) -> Iterator[dict[str, Any]]:
        """The newest run reports, newest first.

        Raises:
            StateError: One is damaged.
        """
        keys = sorted(entry.key for entry in self.store.entries(layout.runs_prefix(datastore_id)))
        for key in keys[::-1][:last]:
            stored = self.store.get(key)
            if stored:
                yield checkpoints.parse_state(stored.body, f"the run report {key}", _RUN_FORMAT, "delete that file")


def open_catalog(store: Store) -> Catalog:
    """The catalog that lies in a store.

    Raises:
        UsageError: There is none.
        StateError: Its catalog.json is damaged, or of a later version.
    """
    stored = store.get(layout.DESCRIPTION_KEY)
    if stored is None:
        raise UsageError(f"there is no catalog at {store.url}; make one with: ahi-catalog sync --catalog {store.url}")
    return Catalog(store, descriptions.decode(stored.body))


def open_or_create(store: Store, unit: Unit | None, phi: PhiPolicy | None = None) -> Catalog:
    """The catalog that lies in a store, made if there is none.

    Args:
        store: Where it lies.
        unit: The partition unit asked for; None: the catalog's own, `day` for a new one.
        phi: The PHI policy asked for; None: the catalog's own, `keep` for a new one.

    Raises:
        UsageError: The catalog has another partition unit, PHI policy or PHI key than asked for.
        StateError: Its catalog.json is damaged, or of a later version.
    """
    if store.get(layout.DESCRIPTION_KEY) is None:
        try:
            made = descriptions.encode(Description(unit=unit or Unit.DAY, phi=phi or PhiPolicy()))
            store.put(layout.DESCRIPTION_KEY, made, expected=None)
        except ConflictError:
            pass  # Another run made it just now; what it says is checked below.
    catalog = open_catalog(store)
    if unit is not None and unit is not catalog.description.unit:
        raise UsageError(
            f"the catalog at {store.url} is partitioned by {catalog.description.unit}, which cannot be changed; "
            f"leave out --partition, or sync into a new catalog"
        )
    if phi is not None:
        refuse_other(phi, catalog.description.phi, store.url)
    return catalog
