"""Glue as moto plays it, over real HTTP."""

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from connectors.glue import open_glue


@pytest.fixture(scope="session")
def aws_server() -> Iterator[str]:
    """moto's server; its endpoint."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def glue(aws_server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Our client, in an account without databases."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_GLUE", aws_server)
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAKEFORMATION", aws_server)
    plain = boto3.client("glue")
    for database in plain.get_databases()["DatabaseList"]:
        plain.delete_database(Name=database["Name"])
    return open_glue()


@pytest.fixture
def calls(glue: Any) -> list[str]:
    """The operations that the client calls, in order, those to come too."""
    found: list[str] = []
    glue.meta.events.register("before-call.glue", lambda model, **_: found.append(model.name))
    return found
