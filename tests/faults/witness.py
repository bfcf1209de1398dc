"""The witness looks at a catalog at any moment and holds the promise against it (docs/design.md, section 1)."""

import io
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.faults.ledger import LEDGER
from tests.faults.place import Place, read_coverage
from tests.support.reference import Row, expected_rows, read_rows


class PromiseBrokenError(AssertionError):
    """The catalog is not what it promises to be."""


class Witness:
    """Remembers what the service ever said and what the catalog ever held. Thread-safe.

    Args:
        place: Where the catalog lies.
        datastore_id: The data store.
        read_service: Every image set of the service as it is now.
        late: Ids that the search does not show yet: coverage cannot promise them.
        said: Every row that the service ever had, by id; shared by witnesses of one service.
    """

    def __init__(
        self,
        place: Place,
        datastore_id: str,
        read_service: Callable[[], list[dict[str, Any]]],
        late: set[str],
        said: dict[str, list[Row]],
    ) -> None:
        self.place = place
        self.late = late
        self._datastore_id = datastore_id
        self._read_service = read_service
        self._lock = threading.RLock()
        self._said = said
        self._now: dict[str, Row] = {}
        self._newest: dict[str, tuple[Any, Any]] = {}

    def note(self) -> None:
        """Take note of what the service says now. Called after every change to it."""
        with self._lock:
            self._now = expected_rows(self._read_service())
            for name, row in self._now.items():
                versions = self._said.setdefault(name, [])
                if row not in versions:
                    versions.append(row)

    def look(self) -> dict[str, Row]:
        """The promise at this moment, whatever is going on; the rows.

        Covered image sets have their row, each at most one, in its partition, as the service said it once, and
        none older than it was seen before.
        """
        # The checkpoint first: what it covers was published before.
        coverage = read_coverage(self.place, self._datastore_id)
        objects = self.place.objects("image_sets/")
        with self._lock:
            rows = self._read(objects)
            lost = [
                name
                for name, row in self._now.items()
                if name not in rows and name not in self.late and _is_in(row["created_at"], coverage)
            ]
            altered = [name for name, row in rows.items() if row not in self._said.get(name, [])]
            gone_back = [name for name, row in rows.items() if _age(row) < self._newest.get(name, _age(row))]
            self._newest.update({name: _age(row) for name, row in rows.items()})
            self._judge(len(rows), lost=lost, altered=[*altered, *gone_back])
        return rows

    def compare(self, *, but_deleted: bool = False) -> None:
        """The catalog is the service, row by row and value by value.

        Args:
            but_deleted: Rows of image sets that were deleted may still be there.
        """
        rows = self.look()
        self.note()
        with self._lock:
            lost = [name for name in self._now if name not in rows]
            altered = [name for name, row in self._now.items() if name in rows and rows[name] != row]
            extra = [] if but_deleted else [name for name in rows if name not in self._now]
            self._judge(len(rows), lost=lost, altered=[*altered, *extra])

    def _read(self, objects: Mapping[str, bytes]) -> dict[str, Row]:
        tables = {key: _read_object(key, body) for key, body in objects.items()}
        times = Counter(name for table in tables.values() for name in table["image_set_id"].to_pylist())
        doubled = [name for name, number in times.items() if number > 1]
        if doubled:
            self._judge(len(times), doubled=doubled)
        for key, table in tables.items():
            unit = key.rpartition("/")[0].rpartition("created_")[2]
            value = unit.partition("=")[2]
            misplaced = [m for m in table["created_at"].to_pylist() if not f"{m:%Y-%m-%d}".startswith(value)]
            if misplaced:
                raise PromiseBrokenError(f"{len(misplaced)} rows lie in another partition than their own: {key}")
        return read_rows(tables.values())

    def _judge(
        self, compared: int, *, lost: list[str] | None = None, doubled: list[str] | None = None, altered: Any = None
    ) -> None:
        found = {"lost": lost or [], "doubled": doubled or [], "altered": altered or []}
        LEDGER.looked(compared=compared, **{name: len(ids) for name, ids in found.items()})
        wrong = [f"{len(ids)} {name} ({', '.join(sorted(ids)[:3])})" for name, ids in found.items() if ids]
        if wrong:
            raise PromiseBrokenError(f"of {compared} rows: {'; '.join(wrong)}")


def _read_object(key: str, body: bytes) -> pa.Table:
    try:
        return pq.read_table(io.BytesIO(body), partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise PromiseBrokenError(f"{key} is no whole Parquet object") from error


def _is_in(moment: datetime, coverage: list[tuple[datetime, datetime]]) -> bool:
    return any(start <= moment < end for start, end in coverage)


def _age(row: Row) -> tuple[Any, Any]:
    return (row["version"] or 0, row["updated_at"])
