"""A catalog and an Iceberg catalog: in memory and SQLite, and on a real S3 server with its own REST catalog."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table as IcebergTable

from ahi_catalog.connectors.catalog import Catalog
from ahi_catalog.connectors.iceberg.files import Stores, TableFiles, opening
from ahi_catalog.connectors.settings import S3Access
from ahi_catalog.connectors.storage import MemoryStore, open_store
from tests.connectors.iceberg.tables import NAMESPACE, WHERE, make_catalog

_OURS = {"py-io-impl": f"{TableFiles.__module__}.{TableFiles.__name__}"}


@dataclass(frozen=True)
class Ends:
    """Both ends of a mirror.

    Attributes:
        catalog: Empty.
        target: PyIceberg's catalog, as a mirror opens it.
        properties: Of PyIceberg's catalog.
    """

    catalog: Catalog
    target: IcebergCatalog
    properties: dict[str, str]

    def read(self, name: str = WHERE[1]) -> IcebergTable:
        """The table as a reader loads it that has nothing of ours."""
        return load_catalog("mirror", **self.properties).load_table((NAMESPACE, name))

    @property
    def storage_options(self) -> dict[str, str]:
        """As Polars takes them."""
        found = {name.removeprefix("s3."): value for name, value in self.properties.items() if name.startswith("s3.")}
        return {f"aws_{name.replace('-', '_')}": value for name, value in found.items()} | {"aws_allow_http": "true"}


@contextmanager
def _opened(catalog: Catalog, properties: dict[str, str]) -> Iterator[Ends]:
    with opening(Stores(S3Access())):
        yield Ends(catalog, load_catalog("mirror", **properties | _OURS), properties)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Ends]:
    """A catalog in memory, and a table in a folder."""
    properties = {"type": "sql", "uri": f"sqlite:///{tmp_path}/tables.db", "warehouse": f"file://{tmp_path}/tables"}
    with _opened(make_catalog(MemoryStore()), properties) as ends:
        yield ends


@pytest.fixture
def rest(s3_url: str, table_bucket: dict[str, str]) -> Iterator[Ends]:
    """A catalog on S3, and a table in the same server's REST catalog."""
    target = load_catalog("mirror", **table_bucket)
    for found in target.list_tables(NAMESPACE) if target.namespace_exists(NAMESPACE) else []:
        target.purge_table(found)
    # As credentials of our own, so that S3 copies: those of the settings would be lent ones.
    own = {name: value for name, value in table_bucket.items() if not name.startswith("s3.")}
    with opening(Stores(S3Access())):
        yield Ends(make_catalog(open_store(s3_url)), load_catalog("mirror", **own | _OURS), table_bucket)


@pytest.fixture(params=["sqlite", "rest"])
def ends(request: pytest.FixtureRequest) -> Ends:
    """Both ends, of each kind."""
    found: Ends = request.getfixturevalue(request.param)
    return found


class CrashError(BaseException):
    """The process is no more. Nothing in the program may catch it."""


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch, sqlite: Ends) -> Callable[[int | None], list[str]]:
    """Ends everything at a step of a number: before or after each copy, each file written, each commit."""
    steps: list[str] = []
    chosen: list[int | None] = [None]

    def step(name: str) -> None:
        steps.append(name)
        if chosen[0] is not None and len(steps) > chosen[0]:
            raise CrashError

    def wrap(owner: Any, name: str) -> None:
        call = getattr(owner, name)

        def stepping(*arguments: Any, **named: Any) -> Any:
            step(f"before {name}")
            done = call(*arguments, **named)
            step(f"after {name}")
            return done

        monkeypatch.setattr(owner, name, stepping)

    for name in ("copy", "write", "delete"):
        wrap(TableFiles, name)
    wrap(sqlite.target, "commit_table")

    def set_at(number: int | None) -> list[str]:
        steps.clear()
        chosen[0] = number
        return steps

    return set_at
