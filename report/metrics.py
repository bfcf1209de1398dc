"""A catalog's state as OpenMetrics, for Prometheus and what reads its format (https://openmetrics.io)."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector

from ahi_catalog.connectors.catalog.heartbeat import RUNNING
from ahi_catalog.connectors.catalog.summary import Summary
from ahi_catalog.connectors.catalog.verification import outcome_told
from ahi_catalog.connectors.errors import AhiCatalogError, UsageError

_log = logging.getLogger(__name__)

_OF_RUNS: Final = {
    "requests": "Requests of the newest run.",
    "throttles": "Requests of the newest run that the service throttled.",
    "retries": "Requests of the newest run that were made again.",
    "rows_read": "Image sets that the newest run read.",
}
_DONE: Final = "done"


def openmetrics(summaries: Iterable[Summary], now: datetime) -> str:
    """The state of each data store's part of a catalog: counts and times.

    Args:
        summaries: With the newest run reports.
        now: Aware.
    """
    registry = CollectorRegistry(auto_describe=False)
    found = list(summaries)
    registry.register(_Metrics(lambda: found, lambda: now))
    return str(generate_latest(registry), "utf-8")


@contextmanager
def serving(summaries: Callable[[], list[Summary]], host: str, port: int) -> Iterator[int]:
    """Answers scrapes of the same over http while the block runs; each reads the catalog anew. Yields the port.

    Args:
        summaries: Reads the catalog. Where it cannot, a scrape is answered without values.
        host: The address to listen at.
        port: 0: any that is free.

    Raises:
        UsageError: The address cannot be listened at.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Metrics(summaries, lambda: datetime.now(UTC)))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise UsageError(f"metrics cannot be served at {host}:{port}: {error.strerror}") from None
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Metrics(Collector):
    def __init__(self, summaries: Callable[[], list[Summary]], clock: Callable[[], datetime]) -> None:
        self._read = summaries
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        try:
            return _Catalog(self._read(), self._clock()).collect()
        except AhiCatalogError as error:
            _log.warning("the catalog cannot be read for its metrics: %s", error)
            return iter(())


class _Catalog:
    def __init__(self, summaries: list[Summary], now: datetime) -> None:
        self._summaries = summaries
        self._now = now

    def collect(self) -> Iterator[Metric]:
        yield self._gauge("watermark_timestamp_seconds", "End of the first covered range.", lambda s: s.watermark)
        yield self._gauge(
            "lag_seconds", "Between the watermark and now.", lambda s: s.watermark and (self._now - s.watermark)
        )
        yield self._gauge("followed_to_timestamp_seconds", "Changes are merged up to here.", lambda s: s.followed_to)
        yield self._gauge(
            "gap_seconds", "Uncovered between covered ranges.", lambda s: sum(window.seconds for window in s.gaps)
        )
        yield self._gauge("rows", "Image sets in the table.", lambda s: s.rows)
        yield self._gauge("size_bytes", "Of the data objects.", lambda s: s.bytes)
        yield self._gauge("data_objects", "Partitions with an object.", lambda s: s.partitions)
        yield self._gauge(
            "runs_under_way",
            "Runs that go on.",
            lambda s: sum(outcome_told(run, self._now) == RUNNING for run in s.runs),
        )
        yield self._gauge("problems", "What is damaged or lost.", lambda s: len(s.problems))
        yield self._gauge(
            "unknown_fields", "Fields that the declaration does not know.", lambda s: len(s.unknown_fields)
        )
        yield self._gauge(
            "verify_age_seconds",
            "Since the last verification ended.",
            lambda s: s.verification and s.verification.finished_at and (self._now - s.verification.finished_at),
        )
        yield self._gauge("verify_differences", "That it left.", lambda s: s.verification and s.verification.unrepaired)
        yield self._freshness()
        yield from self._of_runs()

    def _freshness(self) -> Metric:
        family = GaugeMetricFamily(
            "ahi_catalog_freshness_seconds",
            "From createdAt until published, in the newest runs.",
            labels=["datastore_id", "quantile"],
        )
        for summary in self._summaries:
            for share in (0.5, 0.95, 0.99):
                if (seconds := summary.freshness.quantile(share)) is not None:
                    family.add_metric([summary.datastore_id, str(share)], seconds)
        return family

    def _gauge(self, name: str, doc: str, value: Any) -> Metric:
        family = GaugeMetricFamily(f"ahi_catalog_{name}", doc, labels=["datastore_id"])
        for summary in self._summaries:
            if (found := value(summary)) is not None:
                family.add_metric([summary.datastore_id], _number(found))
        return family

    def _of_runs(self) -> Iterator[Metric]:
        """The newest run of each flow, and how many of the newest in a row have failed."""
        labels = ["datastore_id", "flow"]
        newest = [
            (summary.datastore_id, flow, [run for run in ended if run["flow"] == flow])
            for summary in self._summaries
            for ended in [[run for run in summary.runs if outcome_told(run, self._now) != RUNNING]]
            for flow in sorted({run["flow"] for run in ended})
        ]
        for name, doc in _OF_RUNS.items():
            family = GaugeMetricFamily(f"ahi_catalog_last_run_{name}", doc, labels=labels)
            for datastore_id, flow, runs in newest:
                family.add_metric([datastore_id, flow], runs[0][name])
            yield family
        started = GaugeMetricFamily("ahi_catalog_last_run_timestamp_seconds", "When it started.", labels=labels)
        failed = GaugeMetricFamily(
            "ahi_catalog_failed_runs", "Newest runs in a row that did not end as done.", labels=labels
        )
        outcome = InfoMetricFamily("ahi_catalog_last_run", "How the newest run ended.", labels=labels)
        for datastore_id, flow, runs in newest:
            outcomes = [outcome_told(run, self._now) for run in runs]
            started.add_metric([datastore_id, flow], datetime.fromisoformat(runs[0]["started_at"]).timestamp())
            in_a_row = outcomes.index(_DONE) if _DONE in outcomes else len(outcomes)
            failed.add_metric([datastore_id, flow], in_a_row)
            outcome.add_metric([datastore_id, flow], {"outcome": outcomes[0]})
        yield from (started, failed, outcome)


def _number(value: Any) -> float:
    if isinstance(value, datetime):
        return value.timestamp()
    return value.total_seconds() if hasattr(value, "total_seconds") else float(value)
