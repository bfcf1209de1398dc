"""A catalog worth drawing, its page, and a real browser to look at it."""

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from ahi_catalog.connectors.catalog import Catalog
from ahi_catalog.connectors.catalog.freshness import Freshness
from ahi_catalog.connectors.catalog.layout import run_key
from ahi_catalog.report import collect
from ahi_catalog.report.page.render import render
from tests.report.conftest import ID, publish_rows, publish_series, row
from tests.report.test_history import run_report

NOW = datetime(2024, 7, 2, tzinfo=UTC)
OTHER_ID = "0" * 31 + "b"
SECRETS = {
    "patient_name": "Secret^Name",
    "patient_sex": "Secret Sex",
    "study_id": "Secret Study",
    "study_description": "Secret Description",
    "accession_number": "Secret Accession",
    "dicom_study_date": "Secret Date",
    "dicom_study_time": "Secret Time",
    "dicom_patient_birth_date": "Secret Birth",
    "extra": '{"secret": "Secret Extra"}',
}

# Debian's Chromium as root, without its own traffic.
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def fill(folder: Path) -> Catalog:
    """Two data stores: one with a gap, rare and hostile codes, values to hide and runs; one with next to nothing."""
    start = datetime(2024, 5, 1, tzinfo=UTC)
    codes = ["CT", "MR", "US", "CR", "</svg><script>document.title = 'taken'</script>"]
    rows = [
        row(
            number,
            created_at=start + timedelta(hours=number * 7 % 1460),
            last_accessed_at=start + timedelta(days=number % 61),
            series_modality=codes[number % 5],
            series_body_part=["CHEST", "ABDOMEN", "CHESTABDPELVIS", "", "Doe's <i>knee</i>"][number % 5],
            patient_id=f"Secret-{number % 300}",
            **SECRETS,
        )
        for number in range(1500)
    ]
    for number in range(0, 1500, 3):
        rows[number]["storage_tier"] = "ARCHIVE_INSTANT_ACCESS"
    rows += [row(9000 + number, series_modality="XA") for number in range(3)]
    catalog = publish_rows(folder, rows)
    publish_series(catalog, rows[::2], 300_000_000)
    for hour in range(40):
        started = NOW - timedelta(hours=40 - hour)
        outcome = "failed" if hour == 7 else "done"
        freshness = Freshness()
        freshness.add([hour + 3.0 * number for number in range(hour)])
        document = {
            "format": 1,
            **run_report(started_at=f"{started:%Y-%m-%dT%H:%M:%SZ}", outcome=outcome),
            "freshness": freshness.document(),
        }
        catalog.write_run(run_key(ID, started, f"{hour:08x}"), document)
    return publish_rows(folder, [row(number) for number in range(5)], OTHER_ID)


def page_of(catalog: Catalog, **values: Any) -> str:
    """The page of all of a catalog's data stores."""
    reports = [collect(catalog, found, runs=100, now=NOW) for found in catalog.datastore_ids()]
    return render("s3://bucket/imaging", reports, **{"version": "1.2.3", "now": NOW, **values})


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The catalog; tests leave it as it is."""
    return fill(tmp_path_factory.mktemp("page") / "catalog")


@pytest.fixture(scope="session")
def page_file(filled: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a file."""
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(page_of(filled), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, driven by Playwright; without one these tests are skipped, but not in CI.

    Not of the session: as long as Playwright is there, asyncio says that a loop runs in this thread, and Prefect takes
    the flows of later tests for async ones.
    """
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs a browser: apt-get install chromium, or name one in CHROMIUM")
        pytest.skip("no chromium here: apt-get install chromium, or name one in CHROMIUM")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        yield launched
        launched.close()
