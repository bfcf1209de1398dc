"""All that the report shows of one data store, from its objects, its checkpoint and its run reports."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ahi_catalog.connectors.catalog import Catalog
from ahi_catalog.connectors.catalog.checks import count_unparsable
from ahi_catalog.connectors.catalog.summary import Summary, summarize
from ahi_catalog.connectors.windows import Coverage
from ahi_catalog.report import facts, groups, quality
from ahi_catalog.report.arrivals import Arrivals, arrivals
from ahi_catalog.report.groups import Group
from ahi_catalog.report.history import RunRecord, history
from ahi_catalog.report.quality import QualityIssue
from ahi_catalog.schemas import PhiPolicy, Policy
from ahi_catalog.schemas.views import FREQUENT, US_EAST, StoragePrices


@dataclass(frozen=True, slots=True, kw_only=True)
class DatastoreReport:
    """What can be shown of one data store's part of a catalog.

    Attributes:
        datastore_id: The data store.
        phi: The PHI policy of the catalog.
        totals: Image sets, studies, patients.
        data_bytes: Of the table.
        watermark: End of the first covered stretch; None where nothing is covered.
        followed_to: How far changes are followed; None where nothing was ever synced.
        gaps: What lies between what is covered.
        arrivals: Image sets over time; None where there are none and nothing is covered.
        zone: In which hours are told.
        by_hour, by_modality, by_body_part, by_tier, by_age: Image sets by group.
        idle: Of the frequent access tier, by the time since the last access.
        unparsable: Values that their column cannot hold, by column.
        findings: What contradicts itself or is missing.
        runs: The last runs, oldest first.
    """

    datastore_id: str
    phi: PhiPolicy
    totals: Group
    data_bytes: int
    watermark: datetime | None
    followed_to: datetime | None
    gaps: Coverage
    arrivals: Arrivals | None
    zone: str
    by_hour: tuple[Group, ...]
    by_modality: tuple[Group, ...]
    by_body_part: tuple[Group, ...]
    by_tier: tuple[Group, ...]
    by_age: tuple[Group, ...]
    idle: tuple[Group, ...]
    unparsable: tuple[QualityIssue, ...]
    findings: tuple[QualityIssue, ...]
    runs: tuple[RunRecord, ...]

    @property
    def tells_patients(self) -> bool:
        """Whether patients, studies and series can be told apart."""
        return self.phi.tells_patients

    @property
    def keeps_texts(self) -> bool:
        """Whether what did not parse is kept as it was sent."""
        return self.phi.policy is Policy.KEEP


def collect(
    catalog: Catalog,
    datastore_id: str,
    *,
    runs: int,
    now: datetime,
    zone: str = "UTC",
    prices: StoragePrices = US_EAST,
) -> DatastoreReport:
    """The counts of one data store.

    Args:
        catalog: The catalog.
        datastore_id: The data store.
        runs: How many of the last run reports, at most.
        now: Aware; idle times end here where the catalog never followed changes.
        zone: In which hours of the day are told, as the IANA names it.
        prices: Of storage.

    Raises:
        UsageError: There is no such zone.
        AhiCatalogError: The catalog cannot be read.
    """
    summary = summarize(catalog, datastore_id, runs=runs)
    with facts.load(catalog, datastore_id, prices) as loaded:
        tiers = groups.by_tier(loaded)
        return DatastoreReport(
            datastore_id=datastore_id,
            phi=catalog.description.phi,
            totals=groups.totals(loaded),
            data_bytes=summary.bytes,
            watermark=summary.watermark,
            followed_to=summary.followed_to,
            gaps=summary.gaps,
            arrivals=_arrivals(loaded, summary),
            zone=zone,
            by_hour=groups.by_hour(loaded, zone),
            by_modality=groups.by_code(loaded, "modality"),
            by_body_part=groups.by_code(loaded, "body_part"),
            by_tier=tiers,
            by_age=groups.by_age(loaded, summary.followed_to or now),
            idle=_idle(loaded, tiers, summary.followed_to or now),
            unparsable=quality.unparsable_values(count_unparsable(catalog, datastore_id)),
            findings=quality.findings(loaded),
            runs=history(summary.runs, now),
        )


def _idle(loaded: facts.Facts, tiers: tuple[Group, ...], as_of: datetime) -> tuple[Group, ...]:
    frequent = next((tier for tier in tiers if tier.label == FREQUENT), None)
    return groups.by_idle_time(loaded, frequent, as_of) if frequent else ()


def _arrivals(loaded: facts.Facts, summary: Summary) -> Arrivals | None:
    """From the first image set, or the start of coverage where that is later, to the end of both."""
    [(first, last)] = loaded.rows("select min(created)::date, max(created)::date from facts")
    days: list[Any] = [] if first is None else [first, last]
    for window in summary.coverage:
        days += [window.start.date(), (window.end - timedelta(seconds=1)).astimezone(UTC).date()]
    return arrivals(loaded, min(days), max(days)) if days else None
