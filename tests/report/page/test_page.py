"""The page as a file: what is on it, and what must never be."""

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ahi_catalog.cli.main import run
from ahi_catalog.connectors.catalog import Catalog
from ahi_catalog.connectors.catalog.layout import run_key
from ahi_catalog.report.page.render import render
from ahi_catalog.schemas import Policy
from tests.report.conftest import ID, publish_rows, row
from tests.report.page.conftest import NOW, SECRETS, page_of
from tests.report.test_history import run_report

ADDRESS = re.compile(r"\s(?:src|href|xlink:href|srcset|data|action|poster)=\"(?!#)|url\((?!#)|@import", re.IGNORECASE)
VOID = {"meta", "path", "line", "rect", "pattern", "br"}


def test_no_patient_is_on_the_page(page_file: Path) -> None:
    """No identifier, name, description, date or odd text of any column is in the file."""
    page = page_file.read_text(encoding="utf-8")
    assert not [word for word in ("secret", "knee", "document.title", "patient-") if word in page.lower()]
    assert SECRETS.keys() > {"patient_name", "study_description"}


def test_nothing_on_the_page_points_outside(page_file: Path) -> None:
    """No script, no link but to the page itself, and a policy that forbids the browser to fetch anything."""
    page = page_file.read_text(encoding="utf-8")
    assert not ADDRESS.search(page)
    assert "<script" not in page
    assert """content="default-src 'none'; style-src 'unsafe-inline'\"""" in page


def test_small_groups_are_said_to_be_hidden(page_file: Path) -> None:
    """The rare modality has no line; the data store of five patients shows no count."""
    page = page_file.read_text(encoding="utf-8")
    assert "XA" not in page
    assert ">other (2)<" in page
    small = page[page.index('<section id="store-0000000000000000000000000000000b"') :]
    assert re.search(r"<dt>Image sets</dt><dd>not shown", small)
    assert re.search(r"<dt>Patients</dt><dd>not shown", small)


def test_gaps_are_named_and_hatched(tmp_path: Path) -> None:
    """What lies between covered stretches stands in words on the page, and hatched in the plots."""
    catalog = publish_rows(tmp_path / "c", [row(number) for number in range(30)])
    [checkpoint] = [catalog.checkpoint(found) for found in catalog.datastore_ids()]
    assert checkpoint
    [window] = checkpoint.coverage.windows
    later = type(window)(window.end.replace(day=10), window.end.replace(day=20))
    catalog.update_checkpoint(checkpoint.datastore_id, lambda _: checkpoint.with_coverage([later]))
    page = page_of(catalog)
    assert "Not covered yet: 2024-07-01 00:00 UTC to 2024-07-10 00:00 UTC." in page
    assert 'fill="url(#hatch)"' in page


def test_a_hostile_address_is_text() -> None:
    """What the caller names the catalog is shown, never read as markup."""
    page = render("<script>alert(1)</script>", [], version="1", now=NOW)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_same_catalog_gives_the_same_page(filled: Catalog, page_file: Path) -> None:
    """Nothing but the counts and the clock handed in is on the page."""
    assert page_of(filled) == page_file.read_text(encoding="utf-8")


def test_the_markup_is_well_formed(page_file: Path) -> None:
    """Every element that is opened is closed, in order; ids are unique; each table has heads for rows and columns."""
    stack: list[str] = []
    ids: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            ids.extend(value or "" for name, value in attrs if name == "id")
            if tag not in VOID:
                stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in VOID:
                assert stack.pop() == tag

    page = page_file.read_text(encoding="utf-8")
    Checker().feed(page)
    assert not stack
    assert len(ids) == len(set(ids))
    assert page.count("<table>") == page.count("<thead>") == page.count("<caption>") > 10


def test_the_command_writes_the_page(filled: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`report` writes one file for all data stores, and says where."""
    out = tmp_path / "page.html"
    assert run(["report", "--catalog", filled.store.url, "--out", str(out)]) == 0
    assert "2 data stores" in capsys.readouterr().err
    assert all(found in out.read_text(encoding="utf-8") for found in filled.datastore_ids())


def test_a_page_that_cannot_be_written_fails_in_a_line(
    filled: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that is not there ends with code 1 and the reason."""
    assert run(["report", "--catalog", filled.store.url, "--out", str(tmp_path / "nowhere" / "page.html")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("phi", "says", "says_not"),
    [
        (Policy.KEEP, ["by Patient ID", "every value was parsed"], ["PHI policy"]),
        (Policy.PSEUDONYMIZE, ["by Patient ID", "identifiers are pseudonyms", "Not known here"], ["every value"]),
        (
            Policy.DROP,
            ["not kept", "may still be of a single patient", "Not looked for", "Not known here"],
            ["by Patient ID", "without Study Instance UID", ">patients</th>", "every value", "pseudonyms"],
        ),
    ],
)
def test_the_page_says_what_the_policy_leaves_unknown(
    tmp_path: Path, phi: Policy, says: list[str], says_not: list[str]
) -> None:
    """What a catalog does not keep is said not to be kept, and is no zero and no fault."""
    page = page_of(publish_rows(tmp_path, [row(number) for number in range(50)], phi=phi))
    assert not [text for text in says if text not in page]
    assert not [text for text in says_not if text in page]


def test_days_without_image_sets_have_no_plot_of_their_own(tmp_path: Path) -> None:
    """Where nothing arrived in the last 90 days, an empty plot would say less than the plot of all time."""
    old = [row(number, created_at=datetime(2023, 5, 1, tzinfo=UTC)) for number in range(50)]
    page = page_of(publish_rows(tmp_path, old))
    assert "Image sets a week" in page
    assert "lately" not in page


def test_runs_that_read_metadata_have_no_lag(tmp_path: Path) -> None:
    """They move no watermark: among the lags there is no empty place for them, among the requests there is a bar."""
    catalog = publish_rows(tmp_path, [row(number) for number in range(50)])
    for hour, flow in enumerate(("sync", "metadata")):
        started = NOW - timedelta(hours=3 - hour)
        report = run_report(started_at=f"{started:%Y-%m-%dT%H:%M:%SZ}", flow=flow)
        catalog.write_run(run_key(ID, started, f"{hour:08x}"), {"format": 1, **report})
    page = page_of(catalog)
    lags, requests = re.findall(r"<h3>(?:Lag after|Requests a run).*?</figure>", page, re.DOTALL)
    assert "metadata" not in lags
    assert "10 requests" in requests
