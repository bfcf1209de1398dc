"""Worlds to break, and the table of what was broken."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults import warm
from tests.faults.ledger import LEDGER, Ledger
from tests.faults.mirrors import Mirrors
from tests.faults.place import BucketPlace, FolderPlace, Place
from tests.faults.scale import IS_FULL
from tests.faults.world import FaultWorld, running_world
from tests.faults.zygote import Zygote
from tests.support.s3_proxy import S3Proxy
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

BUCKET = "catalogs"
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def warm_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process keep their clients and wait little, as those in their own do."""
    warm.install(monkeypatch.setattr)
    monkeypatch.setattr(warm, "read_timeout", 30.0)


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    """The warm process that forks runs."""
    with Zygote() as running:
        yield running


@pytest.fixture(scope="session")
def session_proxy(s3_server: S3Server) -> Iterator[S3Proxy]:
    with S3Proxy(s3_server.endpoint, ACCESS_KEY, SECRET_KEY, s3_server.iceberg) as running:
        yield running


@pytest.fixture
def proxy(session_proxy: S3Proxy) -> Iterator[S3Proxy]:
    """The faulty road to S3, without orders."""
    session_proxy.clear()
    before = session_proxy.ever_served
    yield session_proxy
    for kind, times in (session_proxy.ever_served - before).items():
        LEDGER.injected(f"S3: {kind}", times)
    session_proxy.clear()


@pytest.fixture(scope="session")
def bucket(s3_server: S3Server) -> BucketPlace:
    return BucketPlace(s3_server, BUCKET, "unused")


@pytest.fixture(scope="session")
def make_place(bucket: BucketPlace, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Place]:
    """Places by their kind, ``folder`` or ``s3``, each new and empty."""

    def make(kind: str) -> Place:
        name = f"faults-{next(_numbers)}"
        return FolderPlace(tmp_path_factory.mktemp(name) / "catalog") if kind == "folder" else bucket.at(name)

    return make


@pytest.fixture(scope="session")
def open_mirrors(
    session_proxy: S3Proxy, table_bucket: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, FaultWorld], Mirrors]:
    """Gives a world's catalog a mirror by the kind of its place; S3 and the REST catalog are reached by the proxy."""
    tables = tmp_path_factory.mktemp("tables")
    sql = {"type": "sql", "uri": f"sqlite:///{tables}/tables.db", "warehouse": f"file://{tables}"}

    def make(kind: str, world: FaultWorld) -> Mirrors:
        return (
            Mirrors(world, sql, sql["uri"])
            if kind == "folder"
            else Mirrors(world, table_bucket, session_proxy.endpoint)
        )

    return make


@pytest.fixture
def make_world(
    zygote: Zygote, proxy: S3Proxy, make_place: Callable[[str], Place], tmp_path: Path
) -> Iterator[Callable[..., FaultWorld]]:
    """Worlds by the kind of their place and the options of their service; S3 is reached through the proxy."""
    with ExitStack() as stack:

        def make(kind: str = "folder", **options: Any) -> FaultWorld:
            world = running_world(
                make_place(kind), zygote, tmp_path / f"runs{next(_numbers)}", s3_endpoint=proxy.endpoint, **options
            )
            entered = stack.enter_context(world)
            stack.callback(lambda: _count_served(entered))
            return entered

        yield make


@pytest.fixture(scope="module")
def lasting_world(
    zygote: Zygote,
    session_proxy: S3Proxy,
    make_place: Callable[[str], Place],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], FaultWorld]]:
    """Worlds by the kind of their place that stages are set in, once for the tests of a file."""
    with ExitStack() as stack:

        def make(kind: str) -> FaultWorld:
            output = tmp_path_factory.mktemp("runs")
            world = running_world(make_place(kind), zygote, output, s3_endpoint=session_proxy.endpoint)
            return stack.enter_context(world)

        yield make


@pytest.fixture
def world(make_world: Callable[..., FaultWorld]) -> FaultWorld:
    """A catalog in a folder, and a service of the usual behaviour."""
    return make_world()


def _count_served(world: FaultWorld) -> None:
    for kind, times in world.service.counters.faults.items():
        LEDGER.injected(f"service: {kind}", times)


def pytest_sessionfinish(session: Any) -> None:
    """A test process hands in what it counted (pytest-xdist)."""
    handed_in = getattr(session.config, "workeroutput", None)
    if handed_in is not None:
        handed_in["faults"] = LEDGER.page()


class _Collector:
    """Where the counts of several test processes come together."""

    def pytest_testnodedown(self, node: Any) -> None:
        LEDGER.add(getattr(node, "workeroutput", {}).get("faults", Ledger().page()))


def pytest_configure(config: Any) -> None:
    """Collect, where there are several processes."""
    if config.pluginmanager.hasplugin("xdist") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Collector())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of the whole run."""
    if LEDGER.looks:
        terminalreporter.section(f"fault suite, {'in full' if IS_FULL else 'short form'}")
        for line in LEDGER.lines():
            terminalreporter.write_line(line)
