"""No patient's data outside of image_sets/: not in logs at DEBUG, tracebacks, Prefect's database or temporary files.

Real commands run in processes of their own on data whose every sensitive value is marked, under faults, with
everything that they write in one folder; then every byte there outside `image_sets/` is searched for the marks.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ahi_catalog.emulator.metadata import document, instance
from tests.support.prefect_server import running_prefect_server
from tests.support.s3_stub import running_s3_stub
from tests.support.world import BORN, World, summary

ROOT = Path(__file__).parents[2]
LETTERS, DIGITS = "ZQMARKWX", "717719171777"
KEY = "0123456789abcdef" * 4
MARKS = [LETTERS, DIGITS, KEY]


def marked(number: int) -> dict[str, Any]:
    """A summary whose every sensitive value is marked: parsable, odd, of a wrong type and unknown to the schema."""
    tags: dict[str, Any] = {
        name: f"{LETTERS}-{name}-{number % 3}"
        for name in (
            "PatientId",
            "PatientName",
            "PatientSex",
            "PatientBirthDate",
            "StudyDescription",
            "StudyId",
            "AccessionNumber",
            "StudyTime",
            "SeriesModality",
            "SeriesBodyPart",
        )
    }
    tags |= {"StudyInstanceUID": f"1.2.{DIGITS}.{number}", "SeriesInstanceUID": f"1.2.{DIGITS}.{number}.1"}
    if number % 4 == 1:
        tags |= {"PatientName": int(DIGITS), "OtherPatientIDs": f"{LETTERS}-unknown"}
    return summary(f"c{number:07d}", BORN + timedelta(minutes=number), **tags)


class Leaks:
    """A folder in which everything is written, and the search through it."""

    def __init__(self, folder: Path, world: World) -> None:
        self.folder = folder
        self.world = world
        self.catalog = folder / "catalog"
        self.codes: list[str] = []
        self.of_prefect: dict[str, str] = {}
        for name in ("home", "tmp", "work"):
            (folder / name).mkdir()

    def run(self, *steps: dict[str, Any], **environment: str) -> None:
        """Run commands in one process; their exit codes are in `codes`."""
        places = {"HOME": "home", "TMPDIR": "tmp", "PREFECT_HOME": "home/prefect"}
        settings = {
            **{name: str(self.folder / place) for name, place in places.items()},
            "PYTHONPATH": str(ROOT),
            "PYTHONFAULTHANDLER": "1",
            "PREFECT_LOGGING_LEVEL": "DEBUG",
            "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG",
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "DEBUG",
            "PREFECT_LOGGING_EXTRA_LOGGERS": "botocore,urllib3,ahi_catalog",
            "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "true",
            "PREFECT_TASKS_DEFAULT_PERSIST_RESULT": "true",
            "DO_NOT_TRACK": "1",
            "AHI_CATALOG_PHI_KEY": KEY,
            "OPENLINEAGE__TRANSPORT__TYPE": "file",
            "OPENLINEAGE__TRANSPORT__LOG_FILE_PATH": str(self.folder / "lineage.jsonl"),
            "OPENLINEAGE__TRANSPORT__APPEND": "true",
            **self.of_prefect,
            **environment,
        }
        out = self.folder / f"out-{len(self.codes)}"
        with out.open("wb") as stdout, out.with_suffix(".err").open("wb") as stderr:
            subprocess.run(
                [sys.executable, "-m", "tests.support.leak_steps"],
                input=json.dumps(steps).encode(),
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, **settings},
                cwd=self.folder / "work",
                check=True,
                timeout=240,
            )
        said = out.read_text().splitlines()
        self.codes += [line.removeprefix("exit ") for line in said if line.startswith("exit ")]

    def arguments(self, command: str, *more: str, catalog: str | None = None) -> list[str]:
        common = ["--catalog", catalog or str(self.catalog), "--datastore-id", self.world.datastore_id]
        return [command, *common, "--rate", "100000", "--burst", "100000", *more]

    def found(self) -> list[str]:
        """Files outside of the tables that hold a mark: as it is, in UTF-16, hexadecimal or base64."""
        tables = {"image_sets", "series", "instances"}
        files = [path for path in self.folder.rglob("*") if path.is_file() and not tables & set(path.parts)]
        assert files
        needles = [needle for mark in MARKS for needle in _forms(mark.encode())]
        return [path.name for path in files if any(needle in path.read_bytes() for needle in needles)]


def _forms(mark: bytes) -> Iterator[bytes]:
    yield mark
    yield mark.decode().encode("utf-16-le")
    yield mark.hex().encode()
    for offset in range(3):
        # Without the characters that depend on what stands around the mark.
        yield base64.b64encode(b"\0" * offset + mark)[4 if offset else 0 : -4]


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of Prefect's server: making one at DEBUG writes 70,000 lines that tell nothing."""
    folder = tmp_path_factory.mktemp("prefect")
    command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
    environment = {**os.environ, "PREFECT_HOME": str(folder), "DO_NOT_TRACK": "1"}
    subprocess.run(command, env=environment, capture_output=True, check=True, timeout=240)
    return folder / "prefect.db"


@pytest.fixture
def prefect_server(leaks: Leaks, prefect_database: Path) -> Iterator[None]:
    """A server for the flows; what it keeps and logs is searched too."""
    home = leaks.folder / "prefect"
    home.mkdir()
    shutil.copy(prefect_database, home)
    with running_prefect_server(home, PREFECT_LOGGING_LEVEL="DEBUG") as environment:
        leaks.of_prefect = {"PREFECT_API_URL": environment["PREFECT_API_URL"]}
        yield


@pytest.fixture
def leaks(world: World, tmp_path: Path) -> Leaks:
    """Marked data behind the service, which has the machine's own clock."""
    world.service.clock.unfreeze()
    world.service.clock.offset = timedelta()
    world.service.insert(world.datastore_id, [marked(number) for number in range(120)])
    return Leaks(tmp_path, world)


RANGE = ["--from", f"{BORN:%Y-%m-%d}", "--to", f"{BORN + timedelta(days=1):%Y-%m-%d}"]
FEW = ["--concurrency", "2"]
"""Scans side by side, and so many fewer in all: as Prefect's tasks, each has its events and its log."""
EITHER_WAY = pytest.mark.parametrize("prefect", ["--no-prefect", pytest.param("--prefect", marks=pytest.mark.prefect)])
BAD_PAGES = [{"kind": kind, "next": 2} for kind in ("cut", "shorten", "garble_bytes")]
HOSTILE = (
    "select cast(patient_name as int) from image_sets",
    "select error(patient_id) from image_sets",
    "from (pivot image_sets on patient_name) select nothing",
    "from (pivot_wider image_sets on patient_name) select nothing",
    "select patient_name::date from image_sets where study_description like 'A%' or true",
)


@EITHER_WAY
def test_nothing_leaks_whatever_fails(leaks: Leaks, prefect: str, request: pytest.FixtureRequest) -> None:
    """Commands that go through, retry and fail at DEBUG leave no mark outside of image_sets/."""
    if prefect == "--prefect":
        request.getfixturevalue("prefect_server")
    sync = leaks.arguments("sync", prefect, *FEW, "--json")
    backfill = leaks.arguments("backfill", prefect, *FEW, *RANGE)
    verify = leaks.arguments("verify", prefect, *FEW, "--repair", "--restart")
    leaks.run(
        {"args": sync, "break": "cast"},
        {"args": sync, "faults": [{"kind": "shorten", "next": 1_000}]},
        {"args": sync, "faults": BAD_PAGES},
        {"args": backfill, "faults": BAD_PAGES},
        {"args": backfill, "break": "cast"},
        {"args": backfill, "faults": [{"kind": "access_denied", "next": 9}]},
        {"args": verify, "faults": BAD_PAGES},
        {"args": verify, "break": "cast"},
        {"args": verify, "faults": [{"kind": "access_denied", "next": 9}]},
        {"args": sync},
        {"args": ["status", "--catalog", str(leaks.catalog)]},
        *({"args": ["query", "--catalog", str(leaks.catalog), sql]} for sql in HOSTILE),
    )
    assert leaks.codes[:11] == ["1", "1", "0", "0", "1", "1", "0", "1", "1", "0", "0"]
    assert set(leaks.codes[11:]) <= {"1", "2"}
    assert len(list(leaks.catalog.glob("image_sets/**/*.parquet"))) == 1
    assert LETTERS.encode() in next(leaks.catalog.glob("image_sets/**/*.parquet")).read_bytes()
    assert leaks.found() == []


@EITHER_WAY
def test_metadata_leaks_nothing(leaks: Leaks, prefect: str, request: pytest.FixtureRequest) -> None:
    """Metadata that is read, spoilt and refused at DEBUG leaves no mark outside of the tables."""
    if prefect == "--prefect":
        request.getfixturevalue("prefect_server")
    store = leaks.world.service.datastore(leaks.world.datastore_id)
    store.describe = describe_marked
    common = ["--catalog", str(leaks.catalog), "--datastore-id", leaks.world.datastore_id, prefect, *FEW]
    keywords = ["--keyword", "PatientComments", "--keyword", "ExposureTime"]
    metadata = ["metadata", *common, "--metadata-rate", "100000", "--archived", "--yes"]
    verify = ["verify", *common, "--metadata", "--metadata-rate", "100000"]
    of_metadata = [{"kind": kind, "next": 2, "operation": "GetImageSetMetadata"} for kind in SPOILT]
    refused = [{"kind": "access_denied", "next": 9, "operation": "GetImageSetMetadata"}]
    leaks.run(
        {"args": ["sync", *common]},
        {"args": metadata, "faults": refused},
        {"args": metadata, "break": "replace_substring_regex"},
        {"args": [*metadata, *keywords, "--instances"], "faults": of_metadata},
        {"args": metadata, "faults": [{"kind": "shorten", "next": 1_000, "operation": "GetImageSetMetadata"}]},
        # So that the catalog knows that they were accessed.
        {"args": ["backfill", *common, "--from", f"{BORN:%Y-%m-%d}", "--to", f"{BORN + timedelta(days=1):%Y-%m-%d}"]},
        {"args": [*verify, "--repair"], "faults": of_metadata},
        {"args": verify, "faults": refused},
        {"args": verify, "break": "replace_substring_regex"},
        {"args": ["plan", *common[:4], "--metadata"]},
        {"args": ["query", "--catalog", str(leaks.catalog), "select cast(series_description as int) from series"]},
    )
    assert leaks.codes == ["0", "1", "1", "0", "0", "0", "0", "1", "1", "0", "1"]
    [data] = leaks.catalog.glob("series/**/*.parquet")
    assert LETTERS.encode() in data.read_bytes()
    assert leaks.found() == []


SPOILT = ("cut", "shorten", "garble", "garble_bytes", "conflict", "reset")


def describe_marked(record: Any) -> bytes:
    """Metadata whose every text is marked, of the right type and of a wrong one."""
    series: dict[str, Any] = {
        name: f"{LETTERS}-{name}" for name in ("SeriesDescription", "InstitutionName", "StationName")
    }
    series |= {"SeriesDate": f"{LETTERS}-date", "SeriesNumber": f"{LETTERS}-number", "Modality": int(DIGITS)}
    its = {"PatientComments": LETTERS, "ExposureTime": LETTERS, "Rows": LETTERS, "ImageType": [LETTERS, 1]}
    return document(record, ({}, {}, series), [(f"1.2.{DIGITS}.1", instance(its, LETTERS, [(LETTERS, 5)]))])


def test_what_only_reads_leaks_nothing(leaks: Leaks) -> None:
    """The report, plan, doctor, DDL, status, changes, state and check show and keep no mark, on broken pages too."""
    catalog, page = str(leaks.catalog), str(leaks.folder / "work" / "report.html")
    twice = marked(0) | {"imageSetId": "d" * 32}
    leaks.world.service.insert(leaks.world.datastore_id, [twice])
    leaks.run(
        {"args": leaks.arguments("sync", "--no-prefect")},
        {"args": ["report", "--catalog", catalog, "--out", page]},
        {"args": leaks.arguments("plan", "--json"), "faults": BAD_PAGES},
        {"args": leaks.arguments("plan"), "faults": [{"kind": "shorten", "next": 60}]},
        {"args": ["doctor", "--catalog", catalog, "--datastore-id", leaks.world.datastore_id]},
        {"args": ["ddl", "duckdb", "--catalog", catalog]},
        {"args": ["status", "--catalog", catalog, "--json"]},
        {"args": ["contract", "--catalog", catalog]},
        {"args": ["query", "--catalog", catalog, "select count(*) from studies"]},
        {"args": ["query", "--catalog", catalog, "from runs"]},
        {"args": ["changes", "--catalog", catalog, "--since", "2020-01-01", "--json"]},
        {"args": ["state", "show", "--catalog", catalog]},
        {"args": ["check", "--catalog", catalog, "--no-conflicts"]},
    )
    assert leaks.codes[:4] == ["0", "0", "0", "1"]
    assert leaks.codes[5:] == ["0"] * 7 + ["1"]
    assert Path(page).stat().st_size > 10_000
    assert leaks.found() == []


def test_a_put_that_fails_leaks_nothing(leaks: Leaks) -> None:
    """A store that refuses a data object and quotes it in its answer, and a full path in a folder, leave no mark."""
    with running_s3_stub() as stub:
        stub.failing = "image_sets"
        leaks.run(
            {"args": leaks.arguments("sync", "--no-prefect", catalog="s3://catalogs/x")},
            AWS_ENDPOINT_URL_S3=stub.endpoint,
        )
        assert any(method == "PUT" and "image_sets" in path for method, path, _ in stub.requests)
    leaks.catalog.mkdir()
    (leaks.catalog / "image_sets").write_text("in the way")
    leaks.run({"args": leaks.arguments("sync", "--no-prefect")})
    assert leaks.codes == ["1", "1"]
    assert leaks.found() == []


def test_a_key_leaks_nowhere(leaks: Leaks) -> None:
    """Under pseudonymize neither the key nor an original is written, in image_sets/ either."""
    phi = ["--phi", "pseudonymize", "--shift-dates"]
    leaks.run(
        {"args": leaks.arguments("sync", "--no-prefect", *phi)},
        {"args": leaks.arguments("sync", "--no-prefect", "--phi", "drop")},
        {"args": leaks.arguments("sync", "--no-prefect", "--phi-key-from", KEY)},
    )
    assert leaks.codes == ["0", "2", "2"]
    [data] = leaks.catalog.glob("image_sets/**/*.parquet")
    (leaks.folder / "copy").write_bytes(data.read_bytes())
    assert leaks.found() == []


@pytest.mark.parametrize(
    ("plant", "where"),
    [
        ("log", ".err"),
        ("bodies", ".err"),
        ("temp", "tmp"),
        pytest.param("prefect", "prefect.db", marks=pytest.mark.prefect),
    ],
)
def test_a_planted_leak_is_found(leaks: Leaks, plant: str, where: str, request: pytest.FixtureRequest) -> None:
    """The search finds rows in our log, in botocore's and in a temporary file, and a name in a Prefect artifact."""
    prefect = "--prefect" if plant == "prefect" else "--no-prefect"
    if prefect == "--prefect":
        request.getfixturevalue("prefect_server")
    with running_s3_stub() as stub:
        # botocore logs what a store answers; pages are taken out of answers before it could.
        stub.failing = "image_sets"
        catalog = "s3://catalogs/x" if plant == "bodies" else None
        step = {"args": leaks.arguments("sync", prefect, *FEW, catalog=catalog), "plant": plant}
        leaks.run(step, AWS_ENDPOINT_URL_S3=stub.endpoint)
    assert leaks.codes == ["1" if plant == "bodies" else "0"]
    assert any(where in name or name.startswith(where) for name in leaks.found())
