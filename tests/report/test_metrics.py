"""The state of a catalog as OpenMetrics: a real parser reads it, and the numbers are the status's."""

import json
import urllib.request
from datetime import timedelta

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from ahi_catalog.cli.main import run
from ahi_catalog.connectors.catalog import open_catalog, open_store
from ahi_catalog.connectors.catalog.summary import Summary, summarize
from ahi_catalog.connectors.errors import SourceError, UsageError
from ahi_catalog.report.metrics import serving
from tests.support.world import TODAY, World


def sampled(world: World, capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str | None], float]:
    """Values by metric and flow, as Prometheus would keep them."""
    run(["status", "--catalog", str(world.catalog), "--format", "openmetrics"])
    families = text_string_to_metric_families(capsys.readouterr().out)
    samples = [sample for family in families for sample in family.samples]
    assert {sample.labels["datastore_id"] for sample in samples} == {world.datastore_id}
    return {(sample.name, sample.labels.get("flow")): sample.value for sample in samples}


def test_the_metrics_are_the_status_numbers(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows, bytes, watermark and requests are those that `status` shows."""
    world.fill(120)
    world.sync()
    world.verify()
    found = sampled(world, capsys)
    run(["status", "--catalog", str(world.catalog), "--json"])
    [store] = json.loads(capsys.readouterr().out)["datastores"]
    assert found["ahi_catalog_rows", None] == store["rows"] == 120
    assert found["ahi_catalog_size_bytes", None] == store["bytes"]
    assert found["ahi_catalog_problems", None] == found["ahi_catalog_verify_differences", None] == 0
    assert found["ahi_catalog_lag_seconds", None] >= store["lag_seconds"] - 60
    [sync] = [its for its in store["runs"] if its["flow"] == "sync"]
    assert found["ahi_catalog_last_run_requests", "sync"] == sync["requests"]
    assert found["ahi_catalog_failed_runs", "verify"] == 0


def test_failures_in_a_row_are_counted(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs that failed since the last one that was done; a value that there is not is left out."""
    world.fill(20)
    world.sync()
    for hours in (1, 2):
        world.service.clock.freeze(TODAY + timedelta(hours=hours))
        world.service.faults.add("access_denied", next=1)
        with pytest.raises(SourceError):
            world.sync()
    found = sampled(world, capsys)
    assert found["ahi_catalog_failed_runs", "sync"] == 2
    assert ("ahi_catalog_verify_age_seconds", None) not in found


def test_a_watch_serves_the_same_metrics(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A scrape over http reads the catalog anew; while that cannot be read, it is answered without values."""
    world.fill(30)
    catalog = open_store(str(world.catalog))

    def read() -> list[Summary]:
        opened = open_catalog(catalog)
        return [summarize(opened, datastore_id, runs=5) for datastore_id in opened.datastore_ids()]

    def scraped(port: int) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            return str(answer.read(), "utf-8")

    with serving(read, "127.0.0.1", 0) as port:
        assert "ahi_catalog_rows{" not in scraped(port)
        assert "cannot be read for its metrics" in caplog.text
        world.sync()
        assert f'ahi_catalog_rows{{datastore_id="{world.datastore_id}"}} 30.0' in scraped(port)
        with pytest.raises(UsageError, match="metrics cannot be served"), serving(read, "127.0.0.1", port):
            pass
