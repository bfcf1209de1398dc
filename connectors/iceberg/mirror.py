"""Making an Iceberg table equal to a table of a catalog, in one commit, whatever ran before.

Wanted is each data object as one listing tells it. Held are the table's data files, whose paths say which version of
which object each is a copy of. What is wanted and not held is copied and added, what is held and not wanted is deleted,
and all of it shows at one moment. Copies of a run that ended early are in no snapshot, and the next run begins anew.

A commit holds only for the very state that was compared: where another one came first, all is compared again.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    NoSuchNamespaceError,
    NoSuchPropertyException,
    NoSuchTableError,
    ValidationException,
)
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent
from pyiceberg.table import Table as IcebergTable
from sqlalchemy.exc import IntegrityError

from ahi_catalog.connectors.catalog import Catalog
from ahi_catalog.connectors.catalog.layout import Partition, Unit, parse_partition
from ahi_catalog.connectors.errors import ConflictError, StateError, StoppedError, StoreError, UsageError
from ahi_catalog.connectors.iceberg import form
from ahi_catalog.connectors.iceberg.files import TableFiles
from ahi_catalog.connectors.retrying import retry_on_conflict
from ahi_catalog.connectors.storage import Entry
from ahi_catalog.connectors.storage.base import content_etag
from ahi_catalog.schemas import Table

_WRITERS: Final = 16
_MANIFESTS: Final = 6
"""How many a table may have before a run merges them; those that hold nothing but deletions go with that."""
_NAME: Final = re.compile(
    r"(?P<version>[0-9a-f]{32})\.(?P<started>\d{8}T\d{6}Z)\.(?P<run>[0-9a-f]{8})\.(?P<table>[0-9a-f]{8})\.parquet"
)
_STARTED: Final = "%Y%m%dT%H%M%SZ"
_DELETES: Final = ManifestContent.DELETES
LONGEST_RUN: Final = timedelta(hours=12)
"""After which a run, as on a machine that slept, commits nothing: an expiry deletes copies that are twice as old."""
CATALOG: Final = "ahi-catalog.catalog"
CATALOG_ID: Final = "ahi-catalog.catalog-id"
"""In a snapshot's summary: the place of the catalog that was mirrored, and its id, each of which may change alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An Iceberg table, which may not be there yet.

    Attributes:
        catalog: PyIceberg's, loaded with `TableFiles`.
        identifier: Namespace and name of the Iceberg table.
        table: The declaration.
    """

    catalog: IcebergCatalog
    identifier: tuple[str, ...]
    table: Table

    def open(self) -> IcebergTable | None:
        """The table; None where there is none.

        Raises:
            UsageError: There is one of that name that is none of Iceberg's.
        """
        try:
            return self.catalog.load_table(self.identifier)
        except (NoSuchTableError, NoSuchNamespaceError):
            return None
        except NoSuchPropertyException:
            raise UsageError(self._impossible) from None

    def create(self, unit: Unit) -> IcebergTable:
        """The table, made if there is none; partitioned by days or months.

        Raises:
            UsageError: There is one of that name that is none of Iceberg's, or there can be none.
        """
        schema = form.make_schema(self.table)
        try:
            self.catalog.create_namespace_if_not_exists(self.identifier[:-1])
            return self.catalog.create_table_if_not_exists(
                self.identifier,
                schema,
                partition_spec=form.make_spec(self.table, unit, schema),
                sort_order=form.make_order(self.table, schema),
                properties={"format-version": "2", "comment": self.table.doc, **form.make_properties(self.table)},
            )
        except (NoSuchTableError, NoSuchNamespaceError, ValueError):
            raise UsageError(self._impossible) from None

    @property
    def _impossible(self) -> str:
        return (
            f"{'.'.join(self.identifier)} cannot be an Iceberg table: another kind of table has that name (as a "
            "registered one of Athena's), or the catalog has no such namespaces or no warehouse; give another namespace"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a mirror run is told.

    Attributes:
        run_id: Eight hex digits; names its copies.
        started: Aware UTC; tells how old copies are that no snapshot names.
        clock: The local clock, aware.
        summary: For the snapshot: text by name.
        is_overwriting: Whether what others wrote to the table gives way.
        is_dry: Whether only to tell what would be done.
        stop: Set when the run is asked to stop.
    """

    run_id: str
    started: datetime
    clock: Callable[[], datetime]
    summary: Mapping[str, str]
    stop: threading.Event = field(default_factory=threading.Event)
    is_overwriting: bool = False
    is_dry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """What a mirror run did to a table; all zero where it equalled the catalog already.

    Attributes:
        added, replaced, removed: Partitions.
        foreign: Data files and delete files of others that gave way.
        snapshot_id: Of the commit; None: there was none.
    """

    added: int = 0
    replaced: int = 0
    removed: int = 0
    foreign: int = 0
    snapshot_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A live data file of a table.

    Attributes:
        file: As the manifest has it.
        copied: The partition, and the version of its object, that the file is a copy of; None: others wrote the file,
            or delete files that take rows from it.
    """

    file: DataFile
    copied: tuple[Partition, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Difference:
    """What makes a table equal to the catalog."""

    add: dict[Partition, Entry]
    delete: list[DataFile]
    told: Mirrored


def copied_at(found: IcebergTable, path: str) -> datetime | None:
    """When the run began that made a file, or began to; None for a file that no mirror of this table made."""
    if not path.startswith(data_folder(found)):
        return None
    name = _NAME.fullmatch(path.rpartition("/")[2].removeprefix(".").removesuffix(".part"))
    # Another catalog's table may lie in the same place.
    if name is None or name["table"] != _mark(found):
        return None
    return datetime.strptime(name["started"], _STARTED).replace(tzinfo=UTC)


def data_folder(found: IcebergTable) -> str:
    """Where the data files of a table lie; ends in a slash."""
    return f"{found.location()}/data/"


def _mark(found: IcebergTable) -> str:
    """What tells the copies of a table from those of any other."""
    return found.metadata.table_uuid.hex[:8]


def mirror(catalog: Catalog, target: Target, run: Run) -> Mirrored | None:
    """Make an Iceberg table equal to a table of a catalog; None where neither of them is there.

    Args:
        catalog: The catalog.
        target: The Iceberg table; made where the catalog has something of it.
        run: What is asked for.

    Raises:
        StateError: Others wrote to the table, or it has another form.
        StoreError: A file cannot be read or written.
        StoppedError: The run was asked to stop; the table is as it was.
    """
    copies: dict[tuple[str, Partition, str], DataFile] = {}
    return retry_on_conflict(_attempt, catalog, target, run, copies)


def _attempt(
    catalog: Catalog, target: Target, run: Run, copies: dict[tuple[str, Partition, str], DataFile]
) -> Mirrored | None:
    """Compare, copy and commit; copies of attempts before are used."""
    table, unit = target.table, catalog.description.unit
    found = target.open()
    if found is None and not any(True for _ in _objects(catalog, table)):
        return None
    if not run.is_dry:
        with conflicts(target.identifier):
            found = found or _create(catalog, target)
            form.bring_up_to_date(found, table, unit)
    if found is not None and not run.is_overwriting:
        _refuse_others(found, run)
    # After the table is loaded: a partition that another run publishes and mirrors meanwhile is then a conflict, and
    # not one that the catalog seems to have lost.
    wanted = dict(_objects(catalog, table))
    with conflicts(target.identifier, found):
        difference = _compare(wanted, _held(found, table) if found else [])
    if difference.told.foreign and not run.is_overwriting:
        raise StateError(
            f"the Iceberg table {'.'.join(target.identifier)} holds {difference.told.foreign:,} data files that are no "
            "copies of a catalog's: another engine compacted it or wrote to it; end that, then mirror with `overwrite`"
        )
    if found is None or run.is_dry or not (difference.add or difference.delete):
        return difference.told

    mark = _mark(found)

    def copy(change: tuple[Partition, Entry]) -> DataFile:
        partition, entry = change
        if run.stop.is_set():
            raise StoppedError("stopped while data objects were copied")
        if (key := (mark, partition, entry.version)) not in copies:
            copies[key] = _copy(catalog, table, found, run, change)
        return copies[key]

    with ThreadPoolExecutor(_WRITERS) as threads:
        added = list(threads.map(copy, difference.add.items()))
    if run.clock() - run.started > LONGEST_RUN:
        raise StoreError("the mirror took so long that an expiry may have deleted its copies: run it again")
    with conflicts(target.identifier, found):
        _commit(found, difference.delete, added, run.summary)
    snapshot = found.current_snapshot()
    return replace(difference.told, snapshot_id=snapshot.snapshot_id if snapshot else None)


def _create(catalog: Catalog, target: Target) -> IcebergTable:
    """Make a table, unless the catalog's own files would lie among its files, or the other way round."""
    found = target.create(catalog.description.unit)
    assert isinstance(found.io, TableFiles)  # noqa: S101  # as its catalog was loaded
    place, own = f"{found.io.place(found.location())}/", f"{catalog.store.url}/"
    if place.startswith(own) or own.startswith(place):
        target.catalog.drop_table(target.identifier)
        found.io.delete(found.metadata_location)
        raise UsageError(
            f"the Iceberg table {'.'.join(target.identifier)} would lie in the catalog's own folder, where its readers "
            "would read it too: give another namespace, or another warehouse"
        )
    return found


def _refuse_others(found: IcebergTable, run: Run) -> None:
    """A catalog made anew in the place of another, or moved, is the same one; a table of two would be neither's."""
    snapshot = found.current_snapshot()
    told = {name: snapshot.summary[name] for name in (CATALOG, CATALOG_ID)} if snapshot and snapshot.summary else {}
    if told and all(value not in (None, run.summary.get(name)) for name, value in told.items()):
        raise StateError(
            f"the Iceberg table {'.'.join(found.name())} is a copy of another catalog, {told[CATALOG]}: give another "
            "namespace; if this catalog is to take its place, mirror with `overwrite`"
        )


def _objects(catalog: Catalog, table: Table) -> Iterator[tuple[Partition, Entry]]:
    """The data objects of a table of the catalog, by one listing."""
    unit = catalog.description.unit
    listed = ((parse_partition(table, entry.key), entry) for entry in catalog.store.entries(table.folder))
    return ((partition, entry) for partition, entry in listed if partition and partition.unit is unit)


def _held(found: IcebergTable, table: Table) -> list[_Held]:
    """The live data files of the current snapshot."""
    snapshot = found.current_snapshot()
    manifests = snapshot.manifests(found.io) if snapshot else []
    entries = [(each.content, entry) for each in manifests for entry in each.fetch_manifest_entry(found.io)]
    # A delete file takes rows from data files that are not younger than itself.
    deleted_to = max((entry.sequence_number or 0 for kind, entry in entries if kind is _DELETES), default=-1)
    return [
        _Held(
            file=entry.data_file,
            copied=None
            if (entry.sequence_number or 0) <= deleted_to
            else _copied(data_folder(found), table, entry.data_file.file_path),
        )
        for kind, entry in entries
        if kind is not _DELETES
    ]


def _copied(data: str, table: Table, path: str) -> tuple[Partition, str] | None:
    """The partition, and the version of its object, that a data file is a copy of by its path."""
    folder, _, name = path.removeprefix(data).rpartition("/")
    partition = parse_partition(table, f"{table.folder}{folder}/{table.object_name}")
    found = _NAME.fullmatch(name)
    return (partition, found["version"]) if partition and found else None


def _compare(wanted: Mapping[Partition, Entry], held: Iterable[_Held]) -> _Difference:
    """What to add to a table and what to delete."""
    kept: set[Partition] = set()
    copied: set[Partition] = set()
    delete: list[DataFile] = []
    foreign = 0
    for each in held:
        partition, version = each.copied or (None, "")
        entry = wanted.get(partition) if partition else None
        foreign += partition is None
        if partition:
            copied.add(partition)
        if partition and entry and partition not in kept and version == _version(entry):
            kept.add(partition)
        else:
            delete.append(each.file)
    add = {partition: entry for partition, entry in wanted.items() if partition not in kept}
    told = Mirrored(
        added=len(add.keys() - copied),
        replaced=len(add.keys() & copied),
        removed=len(copied - wanted.keys()),
        foreign=foreign,
    )
    return _Difference(add=add, delete=delete, told=told)


def _version(entry: Entry) -> str:
    """The version of an object as it stands in the names of its copies: 32 hex digits."""
    return content_etag(entry.version.encode())


def _copy(catalog: Catalog, table: Table, found: IcebergTable, run: Run, change: tuple[Partition, Entry]) -> DataFile:
    """Copy an object beside the table's files; nothing shows before it is committed.

    The run is part of the name: a file that expiry deletes is then none that a run is about to add again, and what a
    crash left behind is known by its age. So is the table: those of two Iceberg catalogs in one place leave each
    other's copies alone.
    """
    partition, entry = change
    folder = partition.key(table).removeprefix(table.folder).rpartition("/")[0]
    name = f"{_version(entry)}.{run.started:{_STARTED}}.{run.run_id}.{_mark(found)}.parquet"
    location = f"{data_folder(found)}{folder}/{name}"
    assert isinstance(found.io, TableFiles)  # noqa: S101  # as its catalog was loaded
    footer, size = found.io.copy(catalog.store, entry, location)
    known = parquet_path_to_id_mapping(found.schema())
    if unknown := set(footer.schema.to_arrow_schema().names) - set(found.schema().column_names):
        raise StateError(
            f"{entry.key} has columns that this version does not know ({', '.join(sorted(unknown))}); "
            "upgrade ahi-catalog"
        )
    statistics = data_file_statistics_from_parquet_metadata(
        footer, compute_statistics_plan(found.schema(), found.properties), known
    )
    return DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=form.partition_value(partition),
        file_size_in_bytes=size,
        sort_order_id=found.sort_order().order_id,
        spec_id=found.spec().spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )


def _commit(
    found: IcebergTable, delete: Iterable[DataFile], add: Iterable[DataFile], summary: Mapping[str, str]
) -> None:
    """Exchange data files in one commit."""
    with found.transaction() as change:
        snapshot = found.current_snapshot()
        if snapshot and len(snapshot.manifests(found.io)) > _MANIFESTS:
            # Merges manifests, and drops those that hold nothing but deletions, which an overwrite keeps for ever.
            change.update_snapshot(snapshot_properties=dict(summary)).merge_append().commit()
        with change.update_snapshot(snapshot_properties=dict(summary)).overwrite() as update:
            # Whatever was added since the table was compared is a conflict.
            update.delete_by_predicate(AlwaysTrue())
            for file in delete:
                update.delete_data_file(file)
            for file in add:
                update.append_data_file(file)


@contextmanager
def conflicts(identifier: tuple[str, ...], found: IcebergTable | None = None) -> Iterator[None]:
    """A look at a table, or a commit, that another commit comes before; where an answer was lost it may have landed.

    Args:
        identifier: Of the table.
        found: The table as it was loaded.

    Raises:
        ConflictError: Load the table and compare again.
        FileNotFoundError: A file that the table needs is missing.
    """
    name, seen = ".".join(identifier), found and found.metadata_location
    try:
        yield
    except (
        CommitFailedException,
        CommitStateUnknownException,
        ValidationException,
        IntegrityError,
        NoSuchTableError,
    ):
        raise ConflictError(f"other commits to the Iceberg table {name} come first") from None
    except FileNotFoundError:
        # An expiry deletes what a snapshot needed that was the newest when the table was loaded.
        if found is None or (found.catalog.table_exists(identifier) and _location(found) == seen):
            raise
        raise ConflictError(f"the Iceberg table {name} changed while it was read") from None
    except ValueError as error:
        # PyIceberg refreshes before it tries again, and finds a table that another mirror has made meanwhile; of
        # expiries that meet one finds snapshots gone.
        if not any(told in str(error) for told in ("UUID", "does not exist")):
            raise
        raise ConflictError(f"the Iceberg table {name} was made anew, or expired, by another run") from None


def _location(found: IcebergTable) -> str:
    return found.catalog.load_table(found.name()).metadata_location
