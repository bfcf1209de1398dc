"""A catalog: its description, its partitions, the checkpoints and run reports of its data stores."""

import json
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from ahi_catalog.connectors.catalog import checkpoint as checkpoints
from ahi_catalog.connectors.catalog import description as descriptions
from ahi_catalog.connectors.catalog import heartbeat as heartbeats
from ahi_catalog.connectors.catalog import layout
from ahi_catalog.connectors.catalog import verification as verifications
from ahi_catalog.connectors.catalog.checkpoint import Checkpoint
from ahi_catalog.connectors.catalog.description import Description, refuse_other
from ahi_catalog.connectors.catalog.freshness import Freshness
from ahi_catalog.connectors.catalog.heartbeat import Heartbeat
from ahi_catalog.connectors.catalog.layout import Partition, Unit
from ahi_catalog.connectors.catalog.verification import Verification
from ahi_catalog.connectors.errors import ConflictError, DamagedError, Remedy, StateError, UsageError
from ahi_catalog.connectors.retrying import retry_on_conflict
from ahi_catalog.connectors.storage import Entry, Store
from ahi_catalog.connectors.storage.probe import probe
from ahi_catalog.connectors.windows import parse_time
from ahi_catalog.schemas import IMAGE_SETS, PhiPolicy, Table
from ahi_catalog.schemas.series import DERIVED_TABLES

_RUN_FORMAT: Final = 1
_RUN_FIELDS: Final = {
    **dict.fromkeys(("flow", "outcome", "started_at"), str),
    **dict.fromkeys(("requests", "throttles", "retries", "new", "updated", "removed"), int),
    "seconds": int | float,
    "verification": dict | None,
    "watermark_after": str | None,
}
"""What whoever shows run reports counts on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """What lies where a data store's objects are.

    Attributes:
        partitions: Those that have an object.
        unexpected: Keys, sorted, of what is none of ours and what readers would read all the same.
    """

    partitions: dict[Partition, Entry]
    unexpected: list[str]


class Catalog:
    """The Parquet table and its state.

    Args:
        store: Where it lies.
        description: What was fixed when it was created.
    """

    def __init__(self, store: Store, description: Description) -> None:
        self.store = store
        self.description = description

    def extend_description(self, keywords: Mapping[str, str], *, with_instances: bool) -> None:
        """Have the catalog keep more of the metadata; what it keeps already stays.

        Args:
            keywords: More of the column `attributes`, each with its VR.
            with_instances: Whether to keep the table `instances` too.
        """

        def extend() -> Description:
            stored = self.store.get(layout.DESCRIPTION_KEY)
            before = descriptions.decode(stored.body) if stored else self.description
            after = replace(
                before,
                keywords={**keywords, **before.keywords},
                has_instances=before.has_instances or with_instances,
            )
            if after != before:
                etag = stored.etag if stored else None
                self.store.put(layout.DESCRIPTION_KEY, descriptions.encode(after), expected=etag)
            return after

        self.description = retry_on_conflict(extend)

    def checkpoint(self, datastore_id: str) -> Checkpoint | None:
        """The checkpoint of a data store; None where nothing was ever synced.

        Raises:
            DamagedError: It is damaged, or another catalog's.
            StateError: It is of a later format.
        """
        stored = self.store.get(layout.checkpoint_key(datastore_id))
        return self._decode(stored.body, datastore_id) if stored else None

    def update_checkpoint(self, datastore_id: str, change: Callable[[Checkpoint | None], Checkpoint]) -> Checkpoint:
        """Replace the checkpoint by a compare-and-swap; on a conflict read, change and swap again.

        Args:
            datastore_id: The data store.
            change: The new checkpoint, given the one that is there now. Called again on each conflict.

        Raises:
            DamagedError: The one that is there is damaged, or another catalog's.
            StateError: It is of a later format.
        """
        return retry_on_conflict(self._swap_checkpoint, datastore_id, change, self._decode)

    def renew_checkpoint(self, fresh: Checkpoint) -> Checkpoint:
        """The checkpoint of a data store: the one that is there, or a fresh one in place of a damaged or lost one."""

        def decode(body: bytes, datastore_id: str) -> Checkpoint | None:
            try:
                return self._decode(body, datastore_id)
            except DamagedError:
                return None

        return retry_on_conflict(self._swap_checkpoint, fresh.datastore_id, lambda found: found or fresh, decode)

    def _swap_checkpoint(
        self,
        datastore_id: str,
        change: Callable[[Checkpoint | None], Checkpoint],
        decode: Callable[[bytes, str], Checkpoint | None],
    ) -> Checkpoint:
        key = layout.checkpoint_key(datastore_id)
        stored = self.store.get(key)
        before = decode(stored.body, datastore_id) if stored else None
        after = replace(change(before), catalog_id=self.description.catalog_id)
        if after != before:
            self.store.put(key, checkpoints.encode(after), expected=stored.etag if stored else None)
        return after

    def _decode(self, body: bytes, datastore_id: str) -> Checkpoint:
        return checkpoints.decode(body, datastore_id, self.description.catalog_id)

    def tables(self) -> list[Table]:
        """The tables that there are: `image_sets`, and those that metadata was read for."""
        derived = [each for each in DERIVED_TABLES if any(True for _ in self.store.entries(each.folder))]
        return [IMAGE_SETS, *derived]

    def datastore_ids(self) -> list[str]:
        """The data stores that the catalog has a checkpoint of, or data; sorted."""
        keys = {entry.key for entry in self.store.entries(layout.STATE)}
        candidates = {found for found in map(layout.state_of, keys) if found}
        partitions = (layout.parse_partition(IMAGE_SETS, entry.key) for entry in self.store.entries(IMAGE_SETS.folder))
        with_data = {partition.datastore_id for partition in partitions if partition}
        return sorted(with_data | {found for found in candidates if layout.checkpoint_key(found) in keys})

    def objects(self, datastore_id: str, table: Table = IMAGE_SETS) -> Objects:
        """What lies where a data store's objects of a table are, by one listing."""
        partitions: dict[Partition, Entry] = {}
        unexpected: list[str] = []
        for entry in self.store.entries(layout.table_prefix(table, datastore_id)):
            if layout.is_unexpected(table, entry.key, self.description.unit):
                unexpected.append(entry.key)
            elif found := layout.parse_partition(table, entry.key):
                partitions[found] = entry
        return Objects(partitions=partitions, unexpected=sorted(unexpected))

    def partitions(self, datastore_id: str, table: Table = IMAGE_SETS) -> dict[Partition, Entry]:
        """The partitions of a data store that have an object of a table."""
        return self.objects(datastore_id, table).partitions

    def verification(self, datastore_id: str) -> Verification | None:
        """The last verification of a data store, finished or under way; None where there was none.

        Raises:
            StateError: What was kept of it is damaged.
        """
        stored = self.store.get(layout.verification_key(datastore_id))
        return verifications.decode(stored.body) if stored else None

    def keep_verification(self, datastore_id: str, verification: Verification, *, is_new: bool = False) -> None:
        """Write down how far a verification is.

        Args:
            datastore_id: The data store.
            verification: Of a run.
            is_new: Whether it takes the place of whatever is there.

        Raises:
            StateError: Another run has begun to verify this data store meanwhile.
        """

        def keep() -> None:
            key = layout.verification_key(datastore_id)
            stored = self.store.get(key)
            if stored and not is_new and verifications.decode(stored.body).run_id != verification.run_id:
                raise StateError("another run is verifying this data store; let it finish, then run again to go on")
            self.store.put(key, verifications.encode(verification), expected=stored.etag if stored else None)

        retry_on_conflict(keep)

    def heartbeat(self, datastore_id: str) -> Heartbeat | None:
        """The last heartbeat of a data store's watch; None where there was none.

        Raises:
            StateError: It is damaged, or of a later version.
        """
        stored = self.store.get(layout.heartbeat_key(datastore_id))
        return heartbeats.decode(stored.body) if stored else None

    def keep_heartbeat(self, datastore_id: str, heartbeat: Heartbeat) -> None:
        """Write down how a watch is, in place of whatever is there."""
        self._overwrite(layout.heartbeat_key(datastore_id), heartbeats.encode(heartbeat))

    def refuse_replaced(self) -> None:
        """Make sure that this catalog is still where it was opened.

        Raises:
            UsageError: There is none any more.
            StateError: It is another one, damaged, or of a later version.
        """
        found = open_catalog(self.store).description
        extended = replace(self.description, keywords=found.keywords, has_instances=found.has_instances)
        if found != extended:
            raise StateError(f"the catalog at {self.store.url} was replaced by another one meanwhile; start again")
        self.description = extended

    def write_run(self, key: str, report: dict[str, Any], *, expected: str | None = None) -> str:
        """Keep a run report: counts, never rows; its etag.

        Args:
            key: Of the report.
            report: As JSON goes.
            expected: The etag of the one to replace; None: there is none.

        Raises:
            ConflictError: There is another one.
        """
        return self.store.put(key, _encoded(report), expected=expected)

    def end_run(self, key: str, report: dict[str, Any], *, expected: str | None) -> None:
        """Keep the report of a run that has ended, in place of its heartbeat.

        Args:
            key: Of the report.
            report: As JSON goes.
            expected: The etag of the last heartbeat, as far as that is known; None: there was none.
        """
        try:
            self.write_run(key, report, expected=expected)
        except ConflictError:
            self._overwrite(key, _encoded(report))

    def _overwrite(self, key: str, body: bytes) -> None:
        """Put an object in place of whatever is there."""

        def put() -> None:
            stored = self.store.get(key)
            self.store.put(key, body, expected=stored.etag if stored else None)

        retry_on_conflict(put)

    def run_keys(self, datastore_id: str) -> list[str]:
        """The keys of the run reports of a data store, newest first."""
        listed = (entry.key for entry in self.store.entries(layout.runs_prefix(datastore_id)))
        return sorted(filter(layout.is_run, listed), reverse=True)

    def run(self, key: str) -> dict[str, Any] | None:
        """A run report; None where there is none.

        Raises:
            StateError: It is damaged, or of a later version.
        """
        stored = self.store.get(key)
        if stored is None:
            return None
        what, advice = f"the run report {key}", "delete that file"
        report = checkpoints.parse_state(stored.body, what, _RUN_FORMAT, advice)
        try:
            Freshness.parse(report.get("freshness"))
            if report.get("outcome") == heartbeats.RUNNING:
                parse_time(report["under_way"]["beat_at"])
        except (KeyError, TypeError, ValueError):
            report = {}
        if not all(isinstance(report.get(name), kind) for name, kind in _RUN_FIELDS.items()):
            raise DamagedError(f"{what} is damaged; {advice}")
        return report


def _encoded(report: dict[str, Any]) -> bytes:
    return json.dumps(report, indent=1).encode() + b"\n"


def open_catalog(store: Store) -> Catalog:
    """The catalog that lies in a store.

    Raises:
        UsageError: There is none.
        StateError: Its catalog.json is damaged, or of a later version.
    """
    stored = store.get(layout.DESCRIPTION_KEY)
    if stored is None:
        raise UsageError(f"there is no catalog at {store.url}: check the place", remedy=Remedy.SYNC)
    return Catalog(store, descriptions.decode(stored.body))


def open_or_create(
    store: Store,
    unit: Unit | None,
    phi: PhiPolicy | None = None,
    *,
    before_creating: Callable[[], object] = lambda: None,
) -> Catalog:
    """The catalog that lies in a store, made if there is none.

    Args:
        store: Where it lies.
        unit: The partition unit asked for; None: the catalog's own, `day` for a new one.
        phi: The PHI policy asked for; None: the catalog's own, `keep` for a new one.
        before_creating: Called before one is made; what it raises leaves nothing behind.

    Raises:
        UsageError: The catalog has another partition unit, PHI policy or PHI key than asked for.
        StateError: Its catalog.json is damaged, of a later version, or lost.
        StoreError: There is none, and the store does not honour conditional writes.
    """
    if store.get(layout.DESCRIPTION_KEY) is None:
        before_creating()
        fresh = Description(
            unit=unit or Unit.DAY,
            catalog_id=uuid.uuid4().hex,
            phi=phi or PhiPolicy(),
        )
        _create(store, fresh)
    catalog = open_catalog(store)
    if unit is not None and unit is not catalog.description.unit:
        raise UsageError(
            f"the catalog at {store.url} is partitioned by {catalog.description.unit}, which cannot be changed; "
            f"leave `partition` out, or sync into a new catalog"
        )
    if phi is not None:
        refuse_other(phi, catalog.description.phi, store.url)
    return catalog


def _create(store: Store, description: Description) -> None:
    has_data = any(layout.parse_partition(IMAGE_SETS, entry.key) for entry in store.entries(IMAGE_SETS.folder))
    # Asked for again: another run may have made the catalog, and published, since this one looked.
    if has_data and store.get(layout.DESCRIPTION_KEY) is None:
        raise StateError(
            f"there are data objects at {store.url} but no {layout.DESCRIPTION_KEY}, which says how they are kept; "
            "restore it, or sync into a new catalog"
        )
    probe(store)
    # Where another run has made it just now, what it says is checked by the caller.
    with suppress(ConflictError):
        store.put(layout.DESCRIPTION_KEY, descriptions.encode(description), expected=None)
