"""The witness looks at a catalog at any moment and holds the promise against it (docs/design.md, section 1)."""

import io
import json
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.faults.ledger import LEDGER
from tests.faults.place import Place, read_coverage
from tests.support.reference import Row, expected_rows


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
        self._summaries: dict[str, dict[str, Any]] = {}
        self._newest: dict[str, tuple[Any, Any]] = {}

    def note(self) -> None:
        """Take note of what the service says now. Called after every change to it."""
        with self._lock:
            summaries = {summary["imageSetId"]: summary for summary in self._read_service()}
            changed = [name for name, summary in summaries.items() if self._summaries.get(name) != summary]
            rows = expected_rows(summaries[name] for name in changed)
            for name, row in rows.items():
                versions = self._said.setdefault(name, [])
                if row not in versions:
                    versions.append(row)
            self._now = {name: rows[name] if name in rows else self._now[name] for name in summaries}
            self._summaries = summaries

    def look(self) -> dict[str, Row]:
        """The promise at this moment, whatever is going on; the rows.

        Covered image sets have their row, each at most one, in its partition, as the service said it once, and
        none older than it was seen before.
        """
        # The checkpoint first: what it covers was published before.
        coverage = read_coverage(self.place, self._datastore_id)
        objects = self.place.objects("image_sets/")
        with self._lock:
            rows = read_rows(objects)
            lost = [
                name
                for name, row in self._now.items()
                if name not in rows and name not in self.late and _is_in(row["created_at"], coverage)
            ]
            altered = [name for name, row in rows.items() if row not in self._said.get(name, [])]
            gone_back = [name for name, row in rows.items() if _age(row) < self._newest.get(name, _age(row))]
            self._newest.update({name: _age(row) for name, row in rows.items()})
            judge(len(rows), lost=lost, altered=[*altered, *gone_back])
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
            judge(len(rows), lost=lost, altered=[*altered, *extra])


def read_rows(objects: Mapping[str, bytes], key: Sequence[str] = ("image_set_id",)) -> dict[str, Row]:
    """The rows of a table's data objects by the values of their key, each in its partition and there once."""
    by_object = {name: _read_object(name, body) for name, body in objects.items()}
    named = [(" ".join(row[name] for name in key), row) for rows in by_object.values() for row in rows]
    times = Counter(name for name, _ in named)
    judge(len(times), doubled=[name for name, number in times.items() if number > 1])
    for name, rows in by_object.items():
        value = name.rpartition("/")[0].rpartition("created_")[2].partition("=")[2]
        misplaced = [row for row in rows if not f"{row['created_at']:%Y-%m-%d}".startswith(value)]
        if misplaced:
            raise PromiseBrokenError(f"{len(misplaced)} rows lie in another partition than their own: {name}")
    return dict(named)


def judge(compared: int, **found: list[str]) -> None:
    """Count what was compared, and what was found wrong with rows of some names.

    Raises:
        PromiseBrokenError: Something was.
    """
    LEDGER.looked(compared=0 if "doubled" in found else compared, **{kind: len(ids) for kind, ids in found.items()})
    wrong = [f"{len(ids)} {name} ({', '.join(sorted(ids)[:3])})" for name, ids in found.items() if ids]
    if wrong:
        raise PromiseBrokenError(f"of {compared} rows: {'; '.join(wrong)}")


@lru_cache(maxsize=1024)
def _read_object(key: str, body: bytes) -> list[Row]:
    """The rows of an object; the same bytes are read once."""
    try:
        rows: list[Row] = pq.read_table(io.BytesIO(body), partitioning=None).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise PromiseBrokenError(f"{key} is no whole Parquet object") from error
    for row in rows:
        # The text of `extra` may order its keys as it likes.
        if "extra" in row:
            row["extra"] = json.loads(row["extra"]) if row["extra"] else None
    return rows


def _is_in(moment: datetime, coverage: list[tuple[datetime, datetime]]) -> bool:
    return any(start <= moment < end for start, end in coverage)


def _age(row: Row) -> tuple[Any, Any]:
    return (row["version"] or 0, row["updated_at"])
