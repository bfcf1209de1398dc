"""Where things lie in a catalog. Pure: keys and partitions, no bytes.

::

    <table>/datastore_id=<32 hex>/created_date=2026-05-01/<the table's object name>
    _state/catalog.json
    _state/datastore_id=<32 hex>/checkpoint.json
    _state/datastore_id=<32 hex>/verification.json
    _state/datastore_id=<32 hex>/watch.json
    _state/datastore_id=<32 hex>/runs/<start>-<run id>.json
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final, Self

import pyarrow as pa
import pyarrow.compute as pc

from ahi_catalog.connectors.rows import pick
from ahi_catalog.connectors.windows import Window
from ahi_catalog.schemas import Table
from ahi_catalog.schemas.external import PartitionKey

STATE: Final = "_state/"
DESCRIPTION_KEY: Final = f"{STATE}catalog.json"
_STATE_KEY: Final = re.compile(rf"{STATE}datastore_id=(?P<id>[0-9a-z]{{32}})/")
_RUN_KEY: Final = re.compile(rf"{_STATE_KEY.pattern}runs/\d{{8}}T\d{{6}}Z-[0-9a-z]+\.json")


class Unit(StrEnum):
    """The span of createdAt, in UTC, that one data object holds."""

    DAY = "day"
    MONTH = "month"

    @property
    def column(self) -> PartitionKey:
        """The partition key in the path."""
        return "created_date" if self is Unit.DAY else "created_month"


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """What one data object of a table holds: a data store's day or month of createdAt, in UTC, by its first day."""

    datastore_id: str
    unit: Unit
    first_day: date

    @property
    def value(self) -> str:
        """The partition key's value: ``2026-05-01``, or ``2026-05``."""
        return self.first_day.isoformat() if self.unit is Unit.DAY else self.first_day.isoformat()[:7]

    def key(self, table: Table) -> str:
        """The key in the store of a table's data object."""
        return f"{table_prefix(table, self.datastore_id)}{self.unit.column}={self.value}/{table.object_name}"

    @property
    def window(self) -> Window:
        """The range of createdAt that belongs here."""
        return Window(_midnight(self.first_day), _midnight(self._next_day()))

    @property
    def ordinal(self) -> int:
        """Its number among all days or months, whichever have image sets."""
        return self.first_day.toordinal() if self.unit is Unit.DAY else self.first_day.year * 12 + self.first_day.month

    def next(self) -> Self:
        """The partition after this one."""
        return type(self)(self.datastore_id, self.unit, self._next_day())

    def _next_day(self) -> date:
        if self.unit is Unit.DAY:
            return self.first_day + timedelta(days=1)
        return (self.first_day.replace(day=28) + timedelta(days=4)).replace(day=1)

    @classmethod
    def of(cls, datastore_id: str, unit: Unit, moment: datetime) -> Self:
        """The partition of an aware moment."""
        day = moment.astimezone(UTC).date()
        return cls(datastore_id, unit, day if unit is Unit.DAY else day.replace(day=1))


def window_of(value: str) -> Window | None:
    """The range of createdAt of the partition with a value (`Partition.value`); None where there is none such."""
    try:
        first_day = date.fromisoformat(value if len(value) > len("2026-05") else f"{value}-01")
    except ValueError:
        return None
    return Partition("", Unit.DAY if len(value) > len("2026-05") else Unit.MONTH, first_day).window


def partitions(datastore_id: str, unit: Unit, window: Window) -> Iterator[Partition]:
    """The partitions that a window touches, in order."""
    partition = Partition.of(datastore_id, unit, window.start)
    while partition.window.start < window.end:
        yield partition
        partition = partition.next()


def partition_rows(table: Table, datastore_id: str, unit: Unit, rows: pa.Table) -> Iterator[tuple[Partition, pa.Table]]:
    """The rows of each partition, by when their image set was created."""
    # Times of a zone, UTC too, have Arrow look into the machine's time zone database, which may be missing.
    created = pc.cast(rows[table.created], pa.timestamp("us"))
    first_days = pc.cast(pc.floor_temporal(created, unit=str(unit)), pa.date32())
    encoded = first_days.combine_chunks().dictionary_encode()
    for index, day in enumerate(encoded.dictionary.to_pylist()):
        yield Partition(datastore_id, unit, day), pick(rows, pc.equal(encoded.indices, index))


def table_prefix(table: Table, datastore_id: str) -> str:
    """The folder of a data store's data objects."""
    return f"{table.folder}datastore_id={datastore_id}/"


def parse_partition(table: Table, key: str) -> Partition | None:
    """The partition that the key of a table's data object names; None for any other key."""
    found = re.fullmatch(
        rf"{re.escape(table.folder)}datastore_id=(?P<id>[0-9a-z]{{32}})/"
        r"(?:created_date=(?P<day>\d{4}-\d\d-\d\d)|created_month=(?P<month>\d{4}-\d\d))/"
        rf"{re.escape(table.object_name)}",
        key,
    )
    if not found:
        return None
    unit = Unit.DAY if found["day"] else Unit.MONTH
    try:
        return Partition(found["id"], unit, date.fromisoformat(found["day"] or f"{found['month']}-01"))
    except ValueError:
        return None


def checkpoint_key(datastore_id: str) -> str:
    """The key of a data store's checkpoint."""
    return f"{STATE}datastore_id={datastore_id}/checkpoint.json"


def verification_key(datastore_id: str) -> str:
    """The key of how far the last verification of a data store is, and what it found."""
    return f"{STATE}datastore_id={datastore_id}/verification.json"


def notices_key(datastore_id: str) -> str:
    """The key of what was told last of a data store."""
    return f"{STATE}datastore_id={datastore_id}/notices.json"


def heartbeat_key(datastore_id: str) -> str:
    """The key of the heartbeat of a data store's watch."""
    return f"{STATE}datastore_id={datastore_id}/watch.json"


def is_unexpected(table: Table, key: str, unit: Unit) -> bool:
    """Whether readers of the table would read an object that is none of a catalog's of this unit.

    Athena and Spark read every object below the table's folder but those with a part that begins with ``_`` or ``.``.
    """
    partition = parse_partition(table, key)
    is_hidden = any(part.startswith(("_", ".")) for part in key.split("/"))
    return not is_hidden and (partition is None or partition.unit is not unit)


def runs_prefix(datastore_id: str) -> str:
    """The folder of a data store's run reports."""
    return f"{STATE}datastore_id={datastore_id}/runs/"


def run_key(datastore_id: str, started_at: datetime, run_id: str) -> str:
    """The key of a run report; keys sort by start."""
    return f"{runs_prefix(datastore_id)}{started_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{run_id}.json"


def is_run(key: str) -> bool:
    """Whether a key is that of a run report; whatever else lies in their folder is none of ours."""
    return _RUN_KEY.fullmatch(key) is not None


def state_of(key: str) -> str | None:
    """The data store whose state an object may be; None where its key is none of ours."""
    found = _STATE_KEY.match(key)
    return found["id"] if found else None


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
