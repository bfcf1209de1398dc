"""A clean AWS environment for every test, and a real S3 server for those that ask for one."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.loaders import create_loader
from moto.server import ThreadedMotoServer

from ahi_catalog.emulator import Emulator, Service, ServiceOptions
from tests.support.event_queue import EventQueue
from tests.support.idc_catalog import sync_idc
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, running_pretender, running_s3_server
from tests.support.world import World

_BUCKET = "catalogs"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What shares a Prefect server runs first and so in one process: xdist hands on the last of what waits."""
    items.sort(key=lambda item: "prefect_server" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session", autouse=True)
def service_models_read_once() -> Iterator[None]:
    """botocore finds and reads each service's model once a process, not once a session: half of making a client."""
    loader = create_loader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", lambda _search_path=None: loader)
        yield


@pytest.fixture(autouse=True)
def clean_aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No profile, file or metadata service of this machine takes part in a test; the credentials are made up."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # OpenLineage's client sets variables of its own, which outlive the test that has configured it.
    of_lineage = [name for name in os.environ if name.startswith("OPENLINEAGE_")]
    for name in ("AWS_PROFILE", "AWS_CA_BUNDLE", *of_lineage):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """SeaweedFS with one bucket."""
    folder: Path = tmp_path_factory.mktemp("s3")
    with running_s3_server(folder) as server:
        boto3.Session().client(
            "s3",
            endpoint_url=server.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        ).create_bucket(Bucket=_BUCKET)
        yield server


@pytest.fixture(scope="session")
def table_bucket(s3_server: S3Server) -> dict[str, str]:
    """PyIceberg's settings of the S3 server's REST catalog."""
    client = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1").client(
        "s3tables", endpoint_url=s3_server.endpoint
    )
    client.create_table_bucket(name="tables")
    return {
        "type": "rest",
        "uri": s3_server.iceberg,
        "warehouse": "s3://tables",
        "rest.sigv4-enabled": "true",
        "rest.signing-name": "s3tables",
        "rest.signing-region": "us-east-1",
        "s3.endpoint": s3_server.endpoint,
        "s3.region": "us-east-1",
        "s3.access-key-id": ACCESS_KEY,
        "s3.secret-access-key": SECRET_KEY,
    }


@pytest.fixture
def s3_url(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A catalog URL of its own, with boto3 pointed at the server."""
    return _catalog_url(s3_server, monkeypatch)


@pytest.fixture(scope="session")
def pretender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server that takes conditional writes and ignores them, with one bucket."""
    folder: Path = tmp_path_factory.mktemp("pretender")
    (folder / "buckets" / _BUCKET).mkdir(parents=True)
    with running_pretender(folder) as server:
        yield server


@pytest.fixture
def pretending_url(pretender: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A catalog URL of its own on that server, with boto3 pointed at it."""
    return _catalog_url(pretender, monkeypatch)


def _catalog_url(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return f"s3://{_BUCKET}/{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def idc_catalogs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Catalogs of some 4,000 real series in folders, one by ``day`` and one by ``month``; not to be changed.

    They lie below folders that readers may take for partition keys, of the table's own names even.
    """
    above = tmp_path_factory.mktemp("idc") / "env=prod" / "study_date=1999-01-01" / "datastore_id=x"
    folders = {partition: above / partition for partition in ("day", "month")}
    sync_idc(folders, rows=4_000)
    return folders


@pytest.fixture(scope="session")
def moto_server() -> Iterator[str]:
    """moto's server, which plays Glue, Lake Formation, SQS, EventBridge and CloudFormation; its endpoint."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def glue_endpoint(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """boto3 pointed at an account without databases in Glue."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_GLUE", moto_server)
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAKEFORMATION", moto_server)
    client = boto3.Session().client("glue")
    for database in client.get_databases()["DatabaseList"]:
        client.delete_database(Name=database["Name"])
    return moto_server


@pytest.fixture
def event_queue(moto_server: str, monkeypatch: pytest.MonkeyPatch) -> EventQueue:
    """A queue of its own, with boto3 pointed at it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", moto_server)
    return EventQueue()


@pytest.fixture
def make_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """Starts a service with the given options, and points boto3 at it."""
    emulators: list[Emulator] = []

    def make(**options: Any) -> World:
        service = Service(ServiceOptions(**{"rate": None, **options}))
        emulator = Emulator(service)
        emulators.append(emulator)
        emulator.__enter__()
        monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", emulator.url)
        return World(service, tmp_path / "catalog")

    yield make
    for emulator in emulators:
        emulator.__exit__(None, None, None)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A world whose service has its usual behaviour, and no quota."""
    return make_world()
