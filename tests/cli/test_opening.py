"""Catalogs that are only read: whose bucket it is, and what a command leaves behind on stderr."""

import os
import subprocess
from pathlib import Path

import pytest

from ahi_catalog.cli.main import run
from ahi_catalog.connectors.catalog import open_or_create, open_store
from tests.cli.test_terminal import PROGRAM
from tests.report.conftest import ID, publish_rows, row
from tests.support.s3_stub import running_s3_stub


def test_a_bucket_of_another_account_is_not_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command that reads a catalog ends with code 1 and one line that says so."""
    commands = ("status", "query select", "report", "ddl athena", "register --database imaging")
    with running_s3_stub() as stub:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", stub.endpoint)
        open_or_create(open_store("s3://catalogs/x"), None)
        for command in commands:
            capsys.readouterr()
            arguments = [*command.split(), "--catalog", "s3://catalogs/x", "--bucket-owner", "999999999999"]
            assert run(arguments) == 1, command
            [line] = capsys.readouterr().err.splitlines()
            assert "another account than --bucket-owner says" in line


def test_archived_image_sets_are_counted_in_a_store_of_plain_http(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --allow-http `metadata --archived` comes as far as its question."""
    with running_s3_stub() as stub:
        # Where names are known to a proxy only, the stub is that proxy.
        monkeypatch.setenv("HTTP_PROXY", stub.endpoint)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", stub.endpoint)
        publish_rows("s3://catalogs/x", [row(1, storage_tier="ARCHIVE_INSTANT_ACCESS")])
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://minio:9000")
        common = ["--catalog", "s3://catalogs/x", "--datastore-id", ID, "--allow-http"]
        assert run(["metadata", *common, "--archived"]) == 2
    assert "give --yes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sql", "code", "said"),
    [("select 1", 0, []), ("select nothing from nowhere", 2, ["Error: ", "line 1: ", " "])],
    ids=["done", "wrong"],
)
def test_the_program_says_nothing_beyond_its_answer(tmp_path: Path, sql: str, code: int, said: list[str]) -> None:
    """Not at its end either, where a library might complain about what is left in memory."""
    publish_rows(tmp_path, [row(number) for number in range(12)])
    command = [PROGRAM, "query", "--catalog", str(tmp_path), sql]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == code
    lines = done.stderr.splitlines()
    assert len(lines) == len(said)
    assert all(line.startswith(beginning) for line, beginning in zip(lines, said, strict=True))
