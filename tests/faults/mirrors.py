"""What a mirror must leave: Iceberg tables with the rows of the catalog's, whose every snapshot stays as it was."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, ClassVar, Final

from pyarrow.fs import FileSelector
from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table as IcebergTable

from ahi_catalog.pipeline.iceberg import TABLES
from ahi_catalog.schemas import Table
from tests.faults import reading
from tests.faults.meeting import before_the_commit, before_the_orphans, hold_and, holding
from tests.faults.place import Place
from tests.faults.stages import Stage
from tests.faults.witness import PromiseBrokenError, judge, read_rows
from tests.faults.world import BORN, TODAY, Ended, FaultWorld
from tests.support.reference import Row

NAME: Final = "faults"
"""Of PyIceberg's catalog."""
NOW: Final = datetime.now(UTC)
"""Snapshots are as old as the machine's clock says."""
EXPIRING: Final[Mapping[str, Any]] = {"keep": timedelta(), "now": NOW + timedelta(hours=12)}
"""All snapshots but the newest are too old, and what a run under way has copied is not."""
_namespaces = count()


def variables(properties: Mapping[str, str]) -> dict[str, str]:
    """PyIceberg's settings of a catalog as variables; credentials are those of the environment."""
    return {
        f"PYICEBERG_CATALOG__{NAME}__{name}".replace(".", "__").replace("-", "_").upper(): value
        for name, value in properties.items()
        if not name.startswith("s3.")
    }


class Mirrors:
    """The Iceberg tables of one world's catalog, in a namespace of their own.

    Args:
        world: Whose runs mirror into it from now on, where they do.
        properties: Of PyIceberg's catalog, for a reader that has nothing of ours.
        uri: Of the same catalog, for runs.
    """

    def __init__(self, world: FaultWorld, properties: Mapping[str, str], uri: str) -> None:
        self.world = world
        self._namespace = f"n{next(_namespaces)}"
        world.settings = replace(world.settings, iceberg=f"{NAME}.{self._namespace}")
        world.environment = world.environment | variables({**properties, "uri": uri})
        self._properties = dict(properties)
        self._history: dict[tuple[str, int], dict[str, Row]] = {}

    def run(self, **asked: Any) -> Ended:
        """Mirror in a process of its own, to its end."""
        ended = self.world.run_apart("iceberg", **{"now": NOW, **asked})
        assert ended.code == 0, ended.error
        return ended

    def tables(self) -> dict[Table, IcebergTable | None]:
        """Those that have a mirror, as a reader loads them; None: there is none yet."""
        with self.world.clients():
            catalog = load_catalog(NAME, **self._properties)
            return {table: _load(catalog, f"{self._namespace}.{table.name}") for table in TABLES}

    def wanted(self, table: Table) -> dict[str, Row]:
        """The rows of a table of the catalog."""
        rows = read_rows(self.world.place.objects(table.folder), table.key)
        return {name: row | {"datastore_id": self.world.datastore_id} for name, row in rows.items()}

    def look(self) -> dict[Table, dict[str, Row]]:
        """Whatever is going on: each snapshot can be read, has each row once, and what it had before; the newest."""
        found: dict[Table, dict[str, Row]] = {}
        for table, mirrored in self.tables().items():
            found[table] = {}
            for snapshot in mirrored.metadata.snapshots if mirrored else ():
                assert mirrored is not None
                rows = self._read(table, mirrored, snapshot.snapshot_id)
                before = self._history.setdefault((table.name, snapshot.snapshot_id), rows)
                judge(len(rows), altered=[name for name in before.keys() | rows if before.get(name) != rows.get(name)])
                if snapshot == mirrored.current_snapshot():
                    found[table] = rows
        return found

    def _read(self, table: Table, mirrored: IcebergTable, snapshot_id: int) -> dict[str, Row]:
        """The rows of a snapshot by the values of their key, each there once; none of one that is expired by now."""
        try:
            rows = mirrored.scan(snapshot_id=snapshot_id).to_arrow().to_pylist()
        except OSError as error:
            now = self.tables()[table]
            if now is not None and now.snapshot_by_id(snapshot_id) is None:
                return self._history.get((table.name, snapshot_id), {})
            raise PromiseBrokenError("a file that a snapshot needs is gone") from error
        times = Counter(" ".join(row[name] for name in table.key) for row in rows)
        judge(len(times), doubled=[name for name, number in times.items() if number > 1])
        return {" ".join(row[name] for name in table.key): _comparable(row) for row in rows}

    def compare(self) -> None:
        """The tables' rows are the catalog's, value by value."""
        for table, rows in self.look().items():
            wanted = self.wanted(table)
            judge(
                len(rows),
                lost=[name for name in wanted if name not in rows],
                altered=[name for name, row in rows.items() if wanted.get(name) != row],
            )

    def data_files(self) -> tuple[set[str], set[str]]:
        """The data files that snapshots name, and those that lie there."""
        named: set[str] = set()
        lying: set[str] = set()
        for mirrored in filter(None, self.tables().values()):
            for snapshot in mirrored.metadata.snapshots:
                manifests = snapshot.manifests(mirrored.io)
                named |= {
                    each.data_file.file_path
                    for manifest in manifests
                    for each in manifest.fetch_manifest_entry(mirrored.io)
                }
            lying |= _data_files(mirrored)
        return named, lying


def _load(catalog: IcebergCatalog, name: str) -> IcebergTable | None:
    try:
        return catalog.load_table(name)
    except NoSuchTableError:
        return None


def _comparable(row: Row) -> Row:
    """A row as the witness reads those of the catalog: the text of `extra` may order its keys as it likes."""
    return row | {"extra": json.loads(row["extra"]) if row["extra"] else None} if "extra" in row else row


def _data_files(mirrored: IcebergTable) -> set[str]:
    io: Any = mirrored.io
    scheme, host, path = io.parse_location(mirrored.location())
    selector = FileSelector(f"{path}/data", recursive=True, allow_not_found=True)
    found = io.fs_by_scheme(scheme, host).get_file_info(selector)
    return {f"{scheme}://{each.path}" for each in found if each.is_file}


@dataclass(slots=True, kw_only=True)
class MirrorStage(Stage):
    """A mirror to be ended somewhere.

    Attributes:
        states: What the catalog was at each mirror before, from the first on.
        open: Gives a world's catalog a mirror.
        mirrors: Of every attempt, by the URL of its place.
    """

    STEPS: ClassVar[Mapping[str, tuple[str, str]]] = {
        "copy": ("PUT", ".parquet"),
        "manifest": ("PUT", ".avro"),
        "commit": ("POST", ""),
        "delete": ("DELETE", ""),
    }

    job: str = "iceberg"
    states: Sequence[Mapping[str, bytes]]
    open: Callable[[FaultWorld], Mirrors]
    mirrors: dict[str, Mirrors] = field(default_factory=dict)

    def attempt(self, place: Place) -> FaultWorld:
        moved = self.world.moved(place)
        mirrors = self.mirrors[place.url] = self.open(moved)
        before: Mapping[str, bytes] = {}
        for state in (*self.states, self.base):
            if before:
                mirrors.run()
            place.fill({key: body for key, body in state.items() if before.get(key) != body})
            for key in before.keys() - state.keys():
                place.remove(key)
            before = state
        mirrors.look()
        return moved

    def resume(self, world: FaultWorld, **changes: Any) -> None:
        mirrors = self.mirrors[world.place.url]
        mirrors.run(**{**self.settings, **changes})

    def compare(self, world: FaultWorld) -> None:
        self.mirrors[world.place.url].compare()


def make_mirror_stages(world: FaultWorld, open_mirrors: Callable[[FaultWorld], Mirrors]) -> dict[str, MirrorStage]:
    """A first mirror, a later one, and one that expires the snapshots of those before.

    The catalog has rows of all its tables: new, changed, removed, and one day that it has no longer. They are not
    rehearsed yet.
    """
    reading.fill(world)
    world.sync()
    world.read_metadata()
    states = [world.place.objects("")]
    world.witness.note()
    reading.live(world)
    world.sync()
    states.append(world.place.objects(""))
    world.backfill(BORN, TODAY)
    world.read_metadata()
    states.append({key: body for key, body in world.place.objects("").items() if f"={BORN:%Y-%m-%d}/" not in key})
    make = partial(MirrorStage, world=world, base=states[2], open=open_mirrors)
    expiring = {"keep": timedelta(), "now": NOW + timedelta(days=2)}
    return {
        "first": make(states=[], settings={"now": NOW}, lines=Counter()),
        "next": make(states=states[:1], settings={"now": NOW}, lines=Counter()),
        "expire": make(states=states[:2], settings=expiring, lines=Counter()),
    }


def meet_in_a_first_mirror(mirrors: Mirrors, breaks: str | None = None) -> None:
    """Two mirrors make the tables; one has copied everything when the other commits."""
    assert not any(mirrors.look().values())
    with holding(mirrors.world, before_the_commit(), job="iceberg", now=NOW, breaks=breaks):
        mirrors.run(breaks=breaks)
    mirrors.compare()


def expire_beside_a_mirror(mirrors: Mirrors, breaks: str | None = None) -> None:
    """A mirror has copied what changed and not committed it when an expiry looks for copies that nobody needs."""
    with ExitStack() as mirroring:
        with holding(mirrors.world, before_the_orphans(), job="iceberg", **EXPIRING, breaks=breaks):
            mirrors.world.sync()
            mirroring.enter_context(holding(mirrors.world, before_the_commit(), job="iceberg", now=NOW))
        mirrors.look()
    mirrors.compare()


def overtake(mirrors: Mirrors, what: str) -> None:
    """A mirror is held before its commit; then both have run, and the tables are the catalog."""
    world = mirrors.world
    world.sync()

    def meanwhile() -> None:
        world.backfill(BORN, TODAY)
        if what == "mirror":
            mirrors.run()
        if what == "expire":
            mirrors.run(**EXPIRING)
        if what == "sync":
            # With a mirror of its own at its end, as `sync --iceberg` has it.
            world.update("a00012", DICOMTags={"DICOMStudyId": "meanwhile"})
            world.service.advance(timedelta(minutes=11))
            assert world.run_apart("sync").code == 0
        mirrors.look()

    hold_and(world, meanwhile, before_the_commit(), job="iceberg", now=NOW)
    if what == "publish":
        mirrors.look()
        mirrors.run()
    mirrors.compare()
    world.service.advance(timedelta(hours=1))
    world.backfill(BORN, TODAY)
    world.read_metadata()
    mirrors.run()
    mirrors.compare()
