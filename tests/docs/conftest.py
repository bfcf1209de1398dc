"""What the pages' examples talk to: a data store, s3://my-bucket/imaging with a catalog of it, and Glue."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import boto3
import pytest
from botocore.config import Config

from ahi_catalog.cli.main import run
from ahi_catalog.emulator import Emulator, Service, ServiceOptions
from tests.support.doc_blocks import EXAMPLE_ID
from tests.support.world import summary

_BORN: Final = datetime(2025, 4, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def example_datastore() -> Iterator[str]:
    """The embedded service with the pages' data store, an image set every other week of a year; its endpoint."""
    service = Service(ServiceOptions(rate=None))
    service.create_datastore(name="example", created_at=_BORN, datastore_id=EXAMPLE_ID)
    service.insert(EXAMPLE_ID, (summary(f"page{day}", _BORN + timedelta(days=day)) for day in range(0, 365, 14)))
    with Emulator(service) as emulator:
        yield emulator.url


@pytest.fixture
def aws(s3_url: str, glue_endpoint: str, example_datastore: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, with boto3 pointed there; runs are on plain threads, as Prefect's own server takes its time."""
    del s3_url, glue_endpoint
    monkeypatch.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", example_datastore)
    monkeypatch.setenv("AHI_CATALOG_PREFECT", "false")
    # A session of its own: the default one keeps the first credentials that it sees.
    client = boto3.Session().client("s3", config=Config(s3={"addressing_style": "path"}))
    if "my-bucket" not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket="my-bucket")
        synced = ["--catalog", "s3://my-bucket/imaging", "--datastore-id", EXAMPLE_ID, "--start", "2025-11-01"]
        assert run(["sync", *synced, "--rate", "1000"]) == 0
