"""`ahi-catalog status`."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from connectors.settings import S3Access
from flows.cli.options import catalog_option, json_option, option, owner_option
from flows.cli.output import print_json, print_pairs, print_table

if TYPE_CHECKING:
    from connectors.catalog.summary import Summary


@click.command()
@catalog_option
@owner_option
@option("--runs", type=click.IntRange(0), default=5, metavar="N", help="How many of the last runs to show.")
@json_option
def status(*, catalog: str, bucket_owner: str | None, runs: int, as_json: bool) -> None:
    """Show what a catalog holds: watermark, lag, gaps, rows, bytes, last runs."""
    from connectors.catalog import open_catalog, open_store  # `--help` does without pyarrow
    from connectors.catalog.summary import summarize

    opened = open_catalog(open_store(catalog, S3Access(bucket_owner=bucket_owner)))
    summaries = [summarize(opened, found, runs=runs) for found in opened.datastore_ids()]
    now = datetime.now(UTC)
    if as_json:
        print_json(
            {
                "catalog": opened.store.url,
                "partition": str(opened.description.unit),
                "phi": str(opened.description.phi),
                "datastores": [_document(summary, now) for summary in summaries],
            }
        )
        return
    if not summaries:
        click.echo(f"The catalog at {opened.store.url} holds no data store yet.")
    for summary in summaries:
        pairs = [*_pairs(summary, now), ("PHI policy", str(opened.description.phi))]
        print_pairs(f"{opened.store.url}, data store {summary.datastore_id}", pairs)
        if summary.runs:
            _print_runs(summary.runs)


def _document(summary: "Summary", now: datetime) -> dict[str, Any]:
    return {
        **asdict(summary),
        "watermark": _time(summary.watermark),
        "followed_to": _time(summary.followed_to),
        "lag_seconds": _lag(summary, now),
        "coverage": [[_time(w.start), _time(w.end)] for w in summary.coverage],
        "gaps": [[_time(w.start), _time(w.end)] for w in summary.gaps],
    }


def _pairs(summary: "Summary", now: datetime) -> list[tuple[str, str]]:
    lag = _lag(summary, now)
    stretches = ", ".join(str(window) for window in summary.coverage) or "nothing yet"
    return [
        ("watermark", _time(summary.watermark) or "none"),
        ("lag", "-" if lag is None else str(timedelta(seconds=lag))),
        ("changes followed to", _time(summary.followed_to) or "never"),
        ("covered", stretches),
        ("gaps", ", ".join(str(window) for window in summary.gaps) or "none"),
        ("rows", f"{summary.rows:,}"),
        ("data objects", f"{summary.partitions:,} ({summary.bytes / 1e6:,.1f} MB)"),
    ]


def _print_runs(runs: list[dict[str, Any]]) -> None:
    counts = ("new", "updated", "removed", "requests")
    rows = [
        [
            run["started_at"][:16].replace("T", " "),
            run["flow"],
            run["outcome"],
            *(f"{run[name]:,}" for name in counts),
            f"{run['seconds']:,.1f}",
        ]
        for run in runs
    ]
    print_table("last runs", ["started (UTC)", "flow", "outcome", *counts, "seconds"], rows)


def _lag(summary: "Summary", now: datetime) -> int | None:
    return int((now - summary.watermark).total_seconds()) if summary.watermark else None


def _time(moment: datetime | None) -> str | None:
    from connectors.catalog.checkpoint import format_time

    return format_time(moment) if moment else None
