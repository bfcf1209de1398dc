"""Credentials that cannot be had, by real boto3: one line in every command, at once, and what to do about it."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from botocore.exceptions import CredentialRetrievalError, RefreshWithMFAUnsupportedError
from botocore.utils import ContainerMetadataFetcher

from ahi_catalog.cli.demo import _embedded_service
from ahi_catalog.cli.main import run
from ahi_catalog.connectors.aws import Credentials, current_session
from ahi_catalog.connectors.aws_failures import credentials_failure, no_answer
from ahi_catalog.connectors.healthimaging.client import make_client
from ahi_catalog.emulator.idc import RELEASES
from tests.support.world import World

SECRET = "wJalrXUtnFEMI"
ROLE = "role_arn = arn:aws:iam::111122223333:role/reader"
REFUSED = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no, %s</Message></Error></ErrorResponse>"
CATALOG = ["--catalog", "s3://bucket/imaging"]
DATASTORE = ["--datastore-id", "0" * 32]


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, bytes]]]:
    """STS and a container's endpoint on loopback: the answers to come; without any, AccessDenied."""
    answers: list[tuple[int, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, body = answers.pop(0) if answers else (403, REFUSED % SECRET.encode())
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)
        yield answers
        server.shutdown()
        thread.join()


@pytest.fixture
def configure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Has boto3 find this configuration and these variables, and nothing else."""

    def write(text: str, **variables: str) -> None:
        path = tmp_path / "config"
        path.write_text(text)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return write


KEYS = f"aws_access_key_id = a\naws_secret_access_key = {SECRET}"
SSO = "sso_account_id = 1\nsso_role_name = r\nsso_region = us-east-1\nsso_start_url = https://x.invalid/start"
PROCESS = "[default]\ncredential_process = "
OLD = json.dumps({"Version": 1, "AccessKeyId": "a", "SecretAccessKey": SECRET, "Expiration": "2020-01-01T00:00:00Z"})
SITUATIONS: dict[str, tuple[str, dict[str, str], str]] = {
    "none": ("", {}, "set AWS_PROFILE, or AWS_ACCESS_KEY_ID"),
    "profile missing": ("", {"AWS_PROFILE": "absent"}, "profile (absent) could not be found"),
    "file malformed": ("[profile", {}, "Unable to parse config file"),
    "keys given in part": ("", {"AWS_ACCESS_KEY_ID": "a"}, "AWS_SECRET_ACCESS_KEY is missing"),
    "SSO never begun": (f"[profile lab]\n{SSO}", {"AWS_PROFILE": "lab"}, "aws sso login --profile lab"),
    "SSO by default": (f"[default]\n{SSO}", {}, "log in: aws sso login\n"),
    "SSO session never begun": (
        f"[profile lab]\nsso_session = s\n{SSO}\n[sso-session s]\n{SSO}",
        {"AWS_PROFILE": "lab"},
        "aws sso login --profile lab",
    ),
    "role by way of SSO": (
        f"[profile lab]\n{ROLE}\nsource_profile = base\n[profile base]\n{SSO}",
        {"AWS_PROFILE": "lab"},
        "aws sso login --profile base",
    ),
    "SSO configured in part": (
        "[profile lab]\nsso_account_id = 1\nsso_start_url = https://x",
        {"AWS_PROFILE": "lab"},
        "sso_region",
    ),
    "role refused": (
        f"[profile lab]\n{ROLE}\nsource_profile = base\n[profile base]\n{KEYS}",
        {"AWS_PROFILE": "lab"},
        "sts:AssumeRole is refused with AccessDenied: check that the role is there and trusts who assumes it",
    ),
    "role of itself": (f"[profile lab]\n{ROLE}\nsource_profile = lab", {"AWS_PROFILE": "lab"}, "lab"),
    "web identity without its file": (
        "",
        {"AWS_ROLE_ARN": "arn:aws:iam::1:role/r", "AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent/token"},
        "/nonexistent/token: No such file",
    ),
    "web identity refused": (
        "",
        {"AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/reader", "AWS_WEB_IDENTITY_TOKEN_FILE": __file__},
        "sts:AssumeRoleWithWebIdentity is refused",
    ),
    "program missing": (f"{PROCESS}/nonexistent/program", {}, "/nonexistent/program: No such file"),
    "program fails": (f"{PROCESS}sh -c 'echo {SECRET} >&2; exit 3'", {}, "custom-process gives none"),
    "program prints no JSON": (f"{PROCESS}echo {SECRET}", {}, "does not answer as boto3 expects"),
    "program prints a list": (f"{PROCESS}echo []", {}, "does not answer as boto3 expects"),
    "program gives what has expired": (f"{PROCESS}echo '{OLD}'", {}, "expired already"),
    "container's endpoint refuses": ("", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "at the issuer"}, "container-role"),
    "container's endpoint is elsewhere": (
        "",
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.invalid/x"},
        "does not answer as boto3 expects",
    ),
    "STS cannot be reached": (
        f"[profile lab]\n{ROLE}\nsource_profile = base\n[profile base]\n{KEYS}",
        {"AWS_PROFILE": "lab", "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"},
        "127.0.0.1 cannot be reached (EndpointConnectionError)",
    ),
    "retries misspelt": ("[default]\nretry_mode = often", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, ""),
    "region misspelt": ("", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "a b"}, ""),
}


@pytest.mark.parametrize("name", SITUATIONS)
@pytest.mark.usefixtures("issuer")
def test_credentials_that_cannot_be_had_are_one_line_of_usage(
    name: str, configure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever boto3 makes of it, the line says what is missing and what to do, and quotes no program or service."""
    text, variables, says = SITUATIONS[name]
    elsewhere = {k: os.environ["AWS_ENDPOINT_URL_STS"] if v == "at the issuer" else v for k, v in variables.items()}
    configure(text, **elsewhere)
    assert run(["status", *CATALOG]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith(("Error: no usable AWS credentials: ", "Error: boto3 cannot work with its configuration: "))
    assert error.count("\n") == 1
    assert SECRET not in error


@pytest.mark.parametrize(
    "command",
    [
        ["sync", *CATALOG, *DATASTORE, "--no-prefect"],
        ["sync", *CATALOG, "--all", "--no-prefect"],
        ["verify", *CATALOG, *DATASTORE, "--no-prefect"],
        ["backfill", *CATALOG, *DATASTORE, "--no-prefect", "--from", "2024-01-01", "--to", "2024-01-02"],
        ["plan", *CATALOG, *DATASTORE],
        ["status", *CATALOG],
        ["query", *CATALOG, "select 1"],
        ["report", *CATALOG, "--out", "page.html"],
        ["register", *CATALOG, "--database", "imaging"],
    ],
    ids=lambda command: " ".join(command[:1] + command[3:4]),
)
@pytest.mark.usefixtures("issuer")
def test_every_command_says_which_operation_was_refused(
    command: list[str], configure: Any, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A role that may not be assumed is told as that, not as missing permissions of S3 or HealthImaging."""
    del world
    text, variables, says = SITUATIONS["role refused"]
    configure(text, **variables)
    assert run(command) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("issuer", "world")
def test_the_doctor_says_which_operation_was_refused(configure: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The line of the credentials says so, and the doctor goes on."""
    text, variables, says = SITUATIONS["role refused"]
    configure(text, **variables)
    assert run(["doctor", *CATALOG, *DATASTORE]) == 1
    assert says in " ".join(capsys.readouterr().out.split())


def test_credentials_that_were_had_before_are_asked_for_again(issuer: list[tuple[int, bytes]], configure: Any) -> None:
    """A container's endpoint that fails for a moment ends no run that has had credentials."""
    soon = (datetime.now(UTC) + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    lasts = {"AccessKeyId": "a", "SecretAccessKey": SECRET, "Token": "c", "Expiration": soon}
    issuer += [(200, json.dumps(lasts).encode())] * 2 + [(500, b"busy")] * 9
    configure("", AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{os.environ['AWS_ENDPOINT_URL_STS']}/x")
    credentials = Credentials(current_session())
    credentials.get()
    with pytest.raises(CredentialRetrievalError) as failed:
        credentials.get()
    assert no_answer(failed.value, "x").may_pass


def test_a_prompt_that_nobody_answers_is_told() -> None:
    """boto3 asks for an MFA code on the terminal, and renews no session that needed one."""
    for error in (EOFError(), RefreshWithMFAUnsupportedError()):
        assert "MFA code" in str(credentials_failure(error, "lab"))


def test_the_demo_needs_nothing_of_the_users_configuration(configure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs where a profile is missing and the file is malformed."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    configure("[profile", AWS_PROFILE="absent")
    with _embedded_service(10, RELEASES[-1]) as datastore_id:
        client = make_client(connections=1)
        assert client.get_datastore(datastoreId=datastore_id)["datastoreProperties"]["datastoreStatus"] == "ACTIVE"
