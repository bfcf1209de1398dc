"""The code broken on purpose, so that the suite can show that it would notice.

Each breakage is what a careless change would do, applied to the running program and to nothing on disk.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from ahi_catalog.connectors.catalog import Catalog, merge
from ahi_catalog.connectors.storage import local, s3
from ahi_catalog.connectors.storage.base import content_etag
from ahi_catalog.connectors.storage.probe import PROBES
from ahi_catalog.connectors.windows import Window
from ahi_catalog.pipeline import engine, lacks, metadata
from ahi_catalog.pipeline.buffer import Buffer
from ahi_catalog.schemas import SERIES, Table

Patch = Callable[[Any, str, Any], None]


def cover_first(patch: Patch) -> None:
    """Coverage grows as soon as a window is scanned, before its rows are published."""

    class Hasty(Buffer):
        def add(self, rows: pa.Table, scanned: Window | None) -> list[Window]:
            super().add(rows, scanned)
            return [scanned] if scanned else []

    patch(engine, "Buffer", Hasty)


def put_unconditionally(patch: Patch) -> None:
    """The last writer wins: no If-Match on S3, neither lock nor comparison in a folder."""

    # The probe still finds the store in order: what is broken is what comes after it.
    whole_s3, whole_folder = s3.S3Store.put, local.LocalStore.put

    def put_to_s3(store: Any, key: str, body: bytes, *, expected: str | None) -> str:
        if key.startswith(PROBES):
            return whole_s3(store, key, body, expected=expected)
        answer = store._try(store._call, store._client.put_object, Key=store._key(key), Body=body)
        return s3._etag(answer)

    def put_to_folder(store: Any, key: str, body: bytes, *, expected: str | None) -> str:
        if key.startswith(PROBES):
            return whole_folder(store, key, body, expected=expected)
        scratch = store._root / local._SCRATCH
        scratch.mkdir(parents=True, exist_ok=True)
        store._files.write(store._path(key), body, unfinished=scratch / f"{uuid.uuid4().hex}.part")
        return content_etag(body)

    patch(s3.S3Store, "put", put_to_s3)
    patch(local.LocalStore, "put", put_to_folder)


def merge_by_arrival(patch: Patch) -> None:
    """The row that arrives wins over the one that is there, whatever its version."""

    def is_newer(
        table: Table, left: pa.Table, at: pa.ChunkedArray, right: pa.Table, also_at: pa.ChunkedArray
    ) -> pa.ChunkedArray:
        del table, left, right, also_at
        return pa.chunked_array([pa.repeat(False, len(at))])

    patch(merge, "is_newer", is_newer)


def publish_series_alone(patch: Patch) -> None:
    """A reading of metadata publishes `series` and forgets `instances`."""
    patch(metadata, "metadata_tables", lambda _: [SERIES])


def trust_series_alone(patch: Patch) -> None:
    """What is in `series` counts as read, whether its instances are there or not."""

    def complete(_: Catalog, held: Mapping[Table, pa.Table]) -> pa.ChunkedArray:
        return merge.origins_of(SERIES, held[SERIES])

    patch(lacks, "_complete", complete)


def commit_unchecked(patch: Patch) -> None:
    """A mirror that only adds files appends them, whatever was committed since it looked."""
    from ahi_catalog.connectors.iceberg import mirror  # noqa: PLC0415  # an extra, which most runs do without

    whole = mirror._commit

    def commit(found: Any, delete: Any, add: Any, summary: Any) -> None:
        if delete:
            return whole(found, delete, add, summary)
        with found.transaction() as change, change.update_snapshot(dict(summary)).fast_append() as update:
            for file in add:
                update.append_data_file(file)
        return None

    patch(mirror, "_commit", commit)


def drop_a_partition(patch: Patch) -> None:
    """A mirror leaves one of several partitions out."""
    from ahi_catalog.connectors.iceberg import mirror  # noqa: PLC0415  # as above

    whole = mirror._compare

    def compare(wanted: Any, held: Any) -> Any:
        difference = whole(wanted, held)
        return replace(difference, add=dict([*difference.add.items()][1:] or difference.add))

    patch(mirror, "_compare", compare)


def take_copies_for_orphans(patch: Patch) -> None:
    """An expiry deletes every copy that no snapshot names, those of a run under way too."""
    from ahi_catalog.connectors.iceberg import history  # noqa: PLC0415  # as above

    patch(history, "_is_old", lambda *_: True)


BREAKAGES: Final[Mapping[str, Callable[[Patch], None]]] = {
    "cover_first": cover_first,
    "put_unconditionally": put_unconditionally,
    "merge_by_arrival": merge_by_arrival,
    "publish_series_alone": publish_series_alone,
    "trust_series_alone": trust_series_alone,
    "commit_unchecked": commit_unchecked,
    "drop_a_partition": drop_a_partition,
    "take_copies_for_orphans": take_copies_for_orphans,
}


@contextmanager
def broken(name: str | None) -> Iterator[None]:
    """This process with something broken, or with nothing."""
    undo: list[tuple[Any, str, Any]] = []

    def patch(target: Any, attribute: str, value: Any) -> None:
        undo.append((target, attribute, getattr(target, attribute)))
        setattr(target, attribute, value)

    if name:
        BREAKAGES[name](patch)
    try:
        yield
    finally:
        for target, attribute, value in reversed(undo):
            setattr(target, attribute, value)
