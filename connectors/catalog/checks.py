"""Whether a catalog is fit to be used: limits on what can be told without asking the service."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pyarrow as pa

from ahi_catalog.connectors.catalog.catalog import Catalog
from ahi_catalog.connectors.catalog.dataset import open_image_sets
from ahi_catalog.connectors.catalog.summary import Summary
from ahi_catalog.connectors.durations import format_duration
from ahi_catalog.connectors.windows import format_time
from ahi_catalog.schemas import unparsable
from ahi_catalog.schemas.decoding import QUALITY_COLUMNS


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is asked of a catalog; what is None or false is not.

    Attributes:
        max_lag: Between the watermark and now.
        max_gap: The longest range before the watermark's end that may be uncovered; 0: none at all.
        max_verify_age: Since the last verification ended; one that left differences fails whatever its age.
        no_lost_objects: Every partition that had an object has it.
        max_unparsable: By column, the greatest share of rows (0 to 1) whose value the column cannot hold.
        no_unknown_fields: The service has sent no field that the declaration does not know.
        no_conflicts: No series, study or patient contradicts itself (the view `conflicts`).
    """

    max_lag: timedelta | None = None
    max_gap: timedelta | None = None
    max_verify_age: timedelta | None = None
    no_lost_objects: bool = False
    max_unparsable: Mapping[str, float] = field(default_factory=dict)
    no_unknown_fields: bool = False
    no_conflicts: bool = False


USUAL = Limits(max_lag=timedelta(hours=3), max_gap=timedelta(), no_lost_objects=True)
"""For who asks for none: an hourly sync, the settle time, and a sync that failed."""


@dataclass(frozen=True, slots=True)
class Check:
    """One limit, held against a data store's part of the catalog.

    Attributes:
        name: What is looked at.
        is_met: Whether it is as the limit asks.
        found: What it is; counts and times only.
        limit: What was asked.
    """

    name: str
    is_met: bool
    found: str
    limit: str


def check(catalog: Catalog, summary: Summary, limits: Limits, now: datetime) -> list[Check]:
    """Hold limits against one data store's part of a catalog.

    Args:
        catalog: The catalog.
        summary: Of the data store.
        limits: What is asked; at least one.
        now: Aware.

    Raises:
        DamagedError: A data object is no Parquet object of a catalog.
        StoreError: The store refuses, or cannot be reached.
    """
    checks = list(_of_summary(summary, limits, now))
    if limits.max_unparsable:
        counts = count_unparsable(catalog, summary.datastore_id)
        for column, limit in limits.max_unparsable.items():
            share = counts[column] / max(summary.rows, 1)
            told = f"{counts[column]:,} of {summary.rows:,} rows ({share:.2%})"
            checks.append(Check(f"unparsable {column}", share <= limit, told, f"at most {100 * limit:.4g} % of them"))
    if limits.no_conflicts:
        conflicts = _conflicts(catalog, summary.datastore_id)
        told = ", ".join(f"{kind} {count:,}" for kind, count in conflicts.items()) or "none"
        checks.append(Check("conflicts", not conflicts, told, "none"))
    return checks


def _of_summary(summary: Summary, limits: Limits, now: datetime) -> Iterator[Check]:
    if limits.max_lag is not None:
        watermark = summary.watermark
        lag = timedelta(seconds=int((now - watermark).total_seconds())) if watermark else None
        is_met = lag is not None and lag <= limits.max_lag
        yield Check("lag", is_met, "nothing is covered" if lag is None else str(lag), _at_most(limits.max_lag))
    if limits.max_gap is not None:
        longest = max((window.end - window.start for window in summary.gaps), default=timedelta())
        found = f"{len(summary.gaps.windows):,}, the longest {longest}" if summary.gaps else "none"
        yield Check("gaps", longest <= limits.max_gap, found, _at_most(limits.max_gap))
    if limits.max_verify_age is not None:
        yield _of_verification(summary, limits.max_verify_age, now)
    if limits.no_lost_objects:
        found = ", ".join(map(str, summary.lost)) or "none"
        yield Check("lost objects", not summary.lost, found, "none")
    if limits.no_unknown_fields:
        since = (f"{name} since {format_time(at)}" for name, at in summary.unknown_fields.items())
        yield Check("unknown fields", not summary.unknown_fields, ", ".join(since) or "none", "none")


def _of_verification(summary: Summary, most: timedelta, now: datetime) -> Check:
    verification = summary.verification
    if verification is None or verification.finished_at is None:
        return Check("verify", is_met=False, found="none has ended", limit=_at_most(most))
    age = timedelta(seconds=int((now - verification.finished_at).total_seconds()))
    left = f", {verification.unrepaired:,} differences left" if verification.unrepaired else ""
    return Check("verify", age <= most and not left, f"{age} ago{left}", _at_most(most))


def _at_most(length: timedelta) -> str:
    return f"at most {format_duration(length)}"


def _conflicts(catalog: Catalog, datastore_id: str) -> dict[str, int]:
    # DuckDB takes a moment to import; the other checks do without.
    from ahi_catalog.connectors.catalog.querying import run_query  # noqa: PLC0415

    counted = "SELECT conflict, count(*) AS n FROM conflicts WHERE datastore_id = $store GROUP BY 1 ORDER BY 1"
    answer = run_query(catalog, counted, {"store": datastore_id})
    return dict(zip(answer["conflict"].to_pylist(), answer["n"].to_pylist(), strict=True))


def count_unparsable(catalog: Catalog, datastore_id: str) -> Counter[str]:
    """How many values of each column the service sent and the column cannot hold; reads a few columns of all objects.

    Raises:
        DamagedError: A data object is no Parquet object of a catalog.
        StoreError: One cannot be got.
    """
    counts = Counter[str]()
    with open_image_sets(catalog, datastore_id) as dataset:
        for batch in dataset.to_batches(columns=QUALITY_COLUMNS):
            counts.update(unparsable(pa.Table.from_batches([batch])))
    return counts
