"""AWS credentials out of a Prefect block: both clients have them, and nothing else sees them."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from connectors import aws
from connectors.catalog import open_catalog, open_store
from connectors.catalog.querying import run_query
from connectors.errors import UsageError
from flows.credentials import find_session
from flows.parameters import parameters_of
from flows.sync import sync
from tests.flows.conftest import World
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    """A temporary Prefect server with a database of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DO_NOT_TRACK", "1")
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with prefect_test_harness(server_startup_timeout=120):
            yield


def test_a_flow_reads_and_writes_with_the_credentials_of_a_block(
    world: World, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment's keys open nothing; the block's open the service and a real S3 server, for Arrow too.

    What Prefect keeps of the run is the block's name.
    """
    world.service.clock.unfreeze()
    world.fill(100)
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    block = AwsCredentials(
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SecretStr(SECRET_KEY), region_name="us-east-1"
    )
    block.save("imaging")
    asked = parameters_of(replace(world.settings, catalog=s3_url))
    assert sync(**asked, credentials="imaging", return_state=True).is_completed()
    with aws.using(find_session("imaging")):
        assert run_query(open_catalog(open_store(s3_url)), "select count(*) from image_sets")[0][0].as_py() == 100
    with get_client(sync_client=True) as client:
        [run] = client.read_flow_runs()
    assert run.parameters["credentials"] == "imaging"
    assert SECRET_KEY not in run.model_dump_json()


def test_a_block_that_is_not_there_is_named() -> None:
    """One line says which block is missing and where to make it."""
    with pytest.raises(UsageError, match="no AwsCredentials block named absent; make it on the page Blocks"):
        find_session("absent")
