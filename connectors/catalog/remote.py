"""The data objects of a store far away as a pyarrow dataset: byte ranges by the store's own client.

Arrow's S3 client would need credentials, regions, certificates, endpoints and proxies of its own; this way what is read
goes the way of what is written, and fails with the same errors. Threads of ours get the footer and then the columns
that are asked for into memory, where Arrow decodes them. A file system of Arrow's that is written in Python, the other
way to do this, hangs or aborts the process now and then: `Scanner.to_reader`, as DuckDB calls it, waits for Arrow's
threads without letting go of Python's lock, and those that still read when Python ends abort (pyarrow 26).
"""

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, Never

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FileInfo, FileSystemHandler, FileType, PyFileSystem

from ahi_catalog.connectors.catalog.parquet import footer_start
from ahi_catalog.connectors.errors import AhiCatalogError, ConflictError
from ahi_catalog.connectors.storage.base import RangeStore

_TAIL_BYTES: Final = 512 << 10
"""The end of an object, which is read first: the footer, and all of an object of some thousand rows."""
_HOLE_BYTES: Final = 256 << 10
"""Columns that lie no further apart are read by one request."""
_RANGE_BYTES: Final = 8 << 20
_OBJECTS: Final = 8
_RANGES: Final = 8
"""Requests side by side for the ends of objects, and for the rest of them; the store has a connection for each."""

_PARQUET: Final = ds.ParquetFileFormat()
Columns = Sequence[str] | Mapping[str, Any] | None
Filter = Any
"""An Expression of pyarrow's; None: every row."""


class RemoteDataset(ds.FileSystemDataset):  # type: ignore[misc]  # pyarrow has no types
    """Parquet objects of a store as one dataset; lazy, with filters and columns pushed down.

    An object is read as one version: where it is replaced meanwhile, the scan fails with ConflictError.

    Args:
        store: Where they lie.
        keys: Of the objects.
        schema: Of the dataset, partition columns included.
        partitioning: Tells the values of partition columns from keys.
        rows: Those that it has; None: all.

    Attributes:
        failure: The first error of the store. An engine that reads the dataset may tell its text only.
    """

    def __init__(
        self,
        store: RangeStore,
        keys: Sequence[str],
        schema: pa.Schema,
        partitioning: ds.Partitioning,
        rows: Filter = None,
    ) -> None:
        self._made_of = store, keys, schema, partitioning
        self._store = store
        self._rows = rows
        self.failure: AhiCatalogError | None = None
        files = PyFileSystem(_WholeObjects(store))
        fragments = [_PARQUET.make_fragment(key, files, partitioning.parse(key)) for key in keys]
        super().__init__(fragments, schema, _PARQUET, files)

    def __reduce__(self) -> tuple[type["RemoteDataset"], tuple[Any, ...]]:
        return RemoteDataset, (*self._made_of, self._rows)

    def filter(self, expression: ds.Expression) -> "RemoteDataset":
        """The dataset with those of its rows only."""
        return RemoteDataset(*self._made_of, self._both(expression))

    def scanner(self, columns: Columns = None, filter: Filter = None, **options: Any) -> "RemoteScan":  # noqa: A002
        """A scan of these rows and columns; arguments as of pyarrow's."""
        return RemoteScan(self, columns, self._both(filter), options)

    def _both(self, rows: Filter) -> Filter:
        return rows if self._rows is None else self._rows if rows is None else self._rows & rows

    def load(self, fragment: ds.ParquetFileFragment, wanted: set[str], rows: Filter, ranges: ThreadPoolExecutor) -> Any:
        """The fragment in memory, as far as it is needed.

        Args:
            fragment: Names the object.
            wanted: The columns to have.
            rows: A filter; row groups without such rows are left out.
            ranges: Where requests are made.

        Raises:
            ConflictError: It was replaced or removed meanwhile.
            StoreError: It cannot be read.
            UsageError: The credentials have ended, and cannot be renewed.
            pyarrow.ArrowException: It is no Parquet object.
        """
        try:
            return self._load(fragment, wanted, rows, ranges)
        except AhiCatalogError as error:
            # A copy: the error's own traceback would hold what holds it.
            self.failure = self.failure or copy.copy(error)
            raise

    def _load(
        self, fragment: ds.ParquetFileFragment, wanted: set[str], rows: Filter, ranges: ThreadPoolExecutor
    ) -> Any:
        key = fragment.path
        tail = self._store.get_part(key, -_TAIL_BYTES, _TAIL_BYTES)
        if tail is None:
            raise removed(key)
        # Memory of Arrow's, which its threads let go of without Python; of what is never written none is used.
        body = pa.allocate_buffer(tail.size)
        held = memoryview(body).cast("B")
        held[tail.start :] = tail.body

        def fetch(bounds: tuple[int, int]) -> None:
            start, stop = bounds
            part = self._store.get_part(key, start, stop - start)
            if part is None or part.etag != tail.etag:
                raise ConflictError(f"{key} was written by another run while it was read; read again")
            held[start:stop] = part.body

        if (missing := footer_start(tail)) < tail.start:
            fetch((missing, tail.start))
        loaded = _PARQUET.make_fragment(body, partition_expression=fragment.partition_expression)
        if tail.start and wanted:
            if rows is not None:
                loaded = loaded.subset(rows, schema=self.schema)
            needed = [(a, min(b, tail.start)) for a, b in _column_ranges(loaded, wanted) if a < tail.start]
            for _ in ranges.map(fetch, _joined(needed)):
                pass
        return loaded


def removed(key: str) -> ConflictError:
    """What is told of an object that is listed and not there; whoever lists again finds what there is."""
    return ConflictError(
        f"{key} is listed and not there when it is read; ask again, and look for what removes objects from the bucket"
    )


class RemoteScan:
    """Some rows and columns of a remote dataset; what pyarrow's Scanner does, each time read anew.

    Args:
        dataset: What is read.
        columns: As pyarrow's Scanner takes them.
        rows: A filter; None: every row.
        options: Further ones of pyarrow's Scanner.
    """

    def __init__(self, dataset: RemoteDataset, columns: Columns, rows: Filter, options: dict[str, Any]) -> None:
        self._dataset = dataset
        self._rows = rows
        self._arguments = {"columns": columns, "filter": rows, **options}
        self.dataset_schema: pa.Schema = dataset.schema
        empty = ds.dataset(self.dataset_schema.empty_table()).scanner(columns=columns, filter=rows)
        self.projected_schema: pa.Schema = empty.projected_schema
        self._wanted = _named(self.dataset_schema.names, columns, rows)

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, object by object; some objects are read ahead.

        Raises:
            StoreError: An object cannot be got.
        """
        fragments = self._dataset.get_fragments(filter=self._rows)
        with ThreadPoolExecutor(_RANGES) as ranges, ThreadPoolExecutor(_OBJECTS) as objects:
            ahead: deque[Future[Any]] = deque()
            try:
                for fragment in fragments:
                    ahead.append(objects.submit(self._dataset.load, fragment, self._wanted, self._rows, ranges))
                    if len(ahead) == _OBJECTS:
                        yield from self._decode(ahead.popleft())
                while ahead:
                    yield from self._decode(ahead.popleft())
            finally:
                for waiting in ahead:
                    waiting.cancel()

    def _decode(self, loading: "Future[Any]") -> Iterator[pa.RecordBatch]:
        batches: Iterator[pa.RecordBatch] = loading.result().to_batches(schema=self.dataset_schema, **self._arguments)
        return batches

    def to_reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self.projected_schema, self.to_batches())

    def to_table(self) -> pa.Table:
        return pa.Table.from_batches(self.to_batches(), self.projected_schema)

    def head(self, num_rows: int) -> pa.Table:
        found: list[pa.RecordBatch] = []
        for batch in self.to_batches():
            found.append(batch)
            if sum(map(len, found)) >= num_rows:
                break
        return pa.Table.from_batches(found, self.projected_schema).slice(0, num_rows)

    def take(self, indices: Any) -> pa.Table:
        return self.to_table().take(indices)

    def count_rows(self) -> int:
        # Without columns, footers are read and nothing else.
        counted = RemoteScan(self._dataset, [], self._rows, {})
        return sum(map(len, counted.to_batches()))


class _WholeObjects(FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """The store as pyarrow has it where it reads a fragment by itself."""

    def __init__(self, store: RangeStore) -> None:
        self._store = store

    def __reduce__(self) -> tuple[type["_WholeObjects"], tuple[RangeStore]]:
        return _WholeObjects, (self._store,)

    def get_type_name(self) -> str:
        return "ahi-catalog"

    def normalize_path(self, path: str) -> str:
        return path

    def open_input_file(self, path: str) -> pa.NativeFile:
        stored = self._store.get(path)
        if stored is None:
            raise FileNotFoundError(path)
        return pa.BufferReader(stored.body)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self.open_input_file(path)

    def get_file_info(self, paths: Sequence[str]) -> list[FileInfo]:
        return [FileInfo(path, FileType.Unknown) for path in paths]

    def _refuse(self, *_: Any) -> Never:
        raise NotImplementedError("the objects of a catalog are listed and written by its runs")

    get_file_info_selector = create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = _refuse
    delete_file = move = copy_file = open_output_stream = open_append_stream = _refuse


def _named(names: Sequence[str], columns: Columns, rows: Filter) -> set[str]:
    """The columns that a scan reads: those asked for, and those of its expressions, which tell them by their text."""
    if columns is None:
        return set(names)
    computed = columns.values() if isinstance(columns, Mapping) else ()
    text = " ".join(map(str, [*computed, *([] if rows is None else [rows])]))
    if "FieldPath" in text:  # columns by their number
        return set(names)
    listed = () if isinstance(columns, Mapping) else columns
    return {name for name in names if name in listed or name in text}


def _column_ranges(fragment: ds.ParquetFileFragment, wanted: set[str]) -> Iterator[tuple[int, int]]:
    """Where the columns lie in an object, in the row groups of a fragment."""
    metadata = fragment.metadata
    for number in (group.id for group in fragment.row_groups):
        group = metadata.row_group(number)
        for chunk in (group.column(index) for index in range(group.num_columns)):
            if chunk.path_in_schema.partition(".")[0] in wanted:
                first = chunk.data_page_offset
                if chunk.has_dictionary_page:
                    first = min(first, chunk.dictionary_page_offset)
                yield first, first + chunk.total_compressed_size


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges that lie close together as one."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and start - joined[-1][1] <= _HOLE_BYTES and stop - joined[-1][0] <= _RANGE_BYTES:
            joined[-1] = joined[-1][0], max(joined[-1][1], stop)
        else:
            joined.append((start, stop))
    return joined
