"""`ahi-catalog status`."""

import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from ahi_catalog.cli.opening import open_to_read, read_options
from ahi_catalog.cli.options import WholeNumber, chosen_form, json_option, option
from ahi_catalog.cli.output import counted, make_table, pairs_table, print_json, show
from ahi_catalog.cli.wording import in_shell_words
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.windows import format_time

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ahi_catalog.connectors.catalog import Catalog
    from ahi_catalog.connectors.catalog.heartbeat import Heartbeat
    from ahi_catalog.connectors.catalog.summary import Summary
    from ahi_catalog.schemas import PhiPolicy


@click.command()
@read_options
@option("--runs", type=WholeNumber, default=5, metavar="N", help="How many of the last runs to show.")
@option(
    "--watch",
    type=click.FloatRange(0.1),
    is_flag=False,
    flag_value=5.0,
    metavar="[SECONDS]",
    help="Show it again every few seconds (5), until Ctrl-C.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "openmetrics"]),
    show_default="table",
    help="For people, for machines, or for Prometheus.",
)
@json_option
def status(
    *,
    catalog: str,
    bucket_owner: str | None,
    allow_http: bool,
    runs: int,
    watch: float | None,
    form: str | None,
    as_json: bool,
) -> int:
    """Show what a catalog holds: watermark, lag, gaps, rows, bytes, last runs, and what is wrong with it.

    Exit code 1 where something is damaged or lost, as far as can be told without asking the service; the whole
    truth takes: ahi-catalog verify

    \b
    While a sync runs elsewhere:
      ahi-catalog status --catalog s3://bucket/imaging --watch 10
    For the node exporter's textfile collector, from cron:
      ahi-catalog status --catalog s3://bucket/imaging --format openmetrics > ahi.prom.new && mv ahi.prom.new ahi.prom
    """
    form = chosen_form(form, as_json=as_json)
    opened = open_to_read(catalog, bucket_owner=bucket_owner, allow_http=allow_http)
    if watch is not None:
        _watch(opened, runs, watch, is_for_people=form == "table")
        return 0
    summaries = _summaries(opened, runs)
    if form == "json":
        print_json(_everything(opened, summaries))
    elif form == "openmetrics":
        from ahi_catalog.report.metrics import openmetrics

        click.echo(openmetrics(summaries, datetime.now(UTC)), nl=False)
    else:
        show(_picture(opened, summaries))
    return int(any(summary.problems for summary in summaries))


def _watch(opened: "Catalog", runs: int, seconds: float, *, is_for_people: bool) -> None:
    """Ctrl-C is how watching ends, so it is no failure."""
    from rich.live import Live

    if not is_for_people or not sys.stdout.isatty():
        raise UsageError("--watch is for a terminal; for machines call status --json again and again")
    with suppress(KeyboardInterrupt), Live(_picture(opened, _summaries(opened, runs)), auto_refresh=False) as live:
        while True:
            time.sleep(seconds)
            live.update(_picture(opened, _summaries(opened, runs)), refresh=True)


def _everything(opened: "Catalog", summaries: "list[Summary]") -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "catalog": opened.store.url,
        "partition": str(opened.description.unit),
        "phi": _phi(opened.description.phi),
        "datastores": [_document(summary, now) for summary in summaries],
    }


def _picture(opened: "Catalog", summaries: "list[Summary]") -> "RenderableType":
    from rich.console import Group

    from ahi_catalog.connectors.catalog.verification import repair_of

    now = datetime.now(UTC)
    parts: list[RenderableType] = []
    for summary in summaries:
        pairs = [*_pairs(summary, now), ("PHI policy", _phi(opened.description.phi))]
        parts.append(pairs_table(f"{opened.store.url}, data store {summary.datastore_id}", pairs))
        if summary.problems:
            parts.append(
                make_table("problems", [""], [[in_shell_words(problem)] for problem in summary.problems], header=False)
            )
            if summary.is_repairable:
                advice = in_shell_words(repair_of(summary.to_repair))
                parts.append(f"{advice} --catalog {opened.store.url} --datastore-id {summary.datastore_id}\n")
        if summary.runs:
            parts.append(_runs_table(summary.runs, now))
    return Group(*parts) if parts else f"The catalog at {opened.store.url} holds no data store yet."


def _summaries(opened: "Catalog", runs: int) -> "list[Summary]":
    from ahi_catalog.connectors.catalog.summary import summarize

    return [summarize(opened, found, runs=runs) for found in opened.datastore_ids()]


def _document(summary: "Summary", now: datetime) -> dict[str, Any]:
    from ahi_catalog.connectors.catalog.checkpoint import format_windows
    from ahi_catalog.connectors.catalog.freshness import Freshness
    from ahi_catalog.connectors.catalog.verification import outcome_told
    from ahi_catalog.pipeline.verify import findings  # `--help` does without pyarrow

    runs = [run | {"outcome": outcome_told(run, now)} for run in summary.runs]
    told = asdict(replace(summary, verification=None, heartbeat=None, freshness=Freshness()))
    del told["heartbeat"]
    return {
        **told,
        "runs": runs,
        "start": _time(summary.start),
        "watermark": _time(summary.watermark),
        "followed_to": _time(summary.followed_to),
        "lag_seconds": _lag(summary, now),
        "coverage": format_windows(summary.coverage),
        "gaps": format_windows(summary.gaps),
        "lost": format_windows(summary.lost),
        "to_repair": None if summary.to_repair is None else format_windows(summary.to_repair),
        "unknown_fields": {name: _time(since) for name, since in summary.unknown_fields.items()},
        "freshness": summary.freshness.document(),
        "watch": summary.heartbeat and summary.heartbeat.document(),
        "verification": summary.verification and findings.document(summary.verification),
    }


def _pairs(summary: "Summary", now: datetime) -> list[tuple[str, str]]:
    lag = _lag(summary, now)
    covered = ", ".join(str(window) for window in summary.coverage) or "nothing yet"
    return [
        ("begins", _time(summary.start) or "with the first sync"),
        ("watermark", _time(summary.watermark) or "none"),
        ("lag", "-" if lag is None else str(timedelta(seconds=lag))),
        ("changes followed to", _time(summary.followed_to) or "never"),
        ("covered", covered),
        ("gaps", ", ".join(str(window) for window in summary.gaps) or "none"),
        ("rows", f"{summary.rows:,}"),
        ("data objects", f"{summary.partitions:,} ({summary.bytes / 1e6:,.1f} MB)"),
        ("published after", str(summary.freshness)),
        ("under way", _under_way(summary.runs, now)),
        ("watch", _watched(summary.heartbeat, now)),
        ("last verified", _verified(summary)),
        ("unknown fields", _unknown_fields(summary)),
        ("problems", f"{len(summary.problems):,}, see below" if summary.problems else "none"),
    ]


def _runs_table(runs: list[dict[str, Any]], now: datetime) -> "RenderableType":
    from ahi_catalog.connectors.catalog.verification import outcome_told

    counts = ("new", "updated", "removed", "requests")
    rows = [
        [
            run["started_at"][:16].replace("T", " "),
            run["flow"],
            outcome_told(run, now),
            *(f"{run[name]:,}" for name in counts),
            f"{run['seconds']:,.0f}",
        ]
        for run in runs
    ]
    return make_table("last runs", ["started, UTC", "flow", "outcome", *counts, "seconds"], rows, is_dense=True)


def _under_way(runs: list[dict[str, Any]], now: datetime) -> str:
    from ahi_catalog.connectors.catalog.freshness import in_words
    from ahi_catalog.connectors.catalog.heartbeat import RUNNING
    from ahi_catalog.connectors.catalog.verification import outcome_told

    told = []
    for run in runs:
        if outcome_told(run, now) != RUNNING:
            continue
        going = run["under_way"]
        phase = f", {going['phase']}" if going.get("phase") else ""
        share = "" if going.get("share") is None else f": {going['share']:.0%}"
        left = "" if going.get("seconds_left") is None else f", about {in_words(going['seconds_left'])} left"
        counts = f"{run['rows_read']:,} image sets, {run['requests']:,} requests"
        told.append(f"{run['flow']} since {run['started_at']}{phase}{share}, {counts}{left} (as of {going['beat_at']})")
    return "; ".join(told) or "no run"


def _watched(heartbeat: "Heartbeat | None", now: datetime) -> str:
    if heartbeat is None:
        return "none"
    passes = f"{counted(heartbeat.passes, 'pass', 'passes')}, {heartbeat.failed_passes:,} failed"
    failure = f"; {in_shell_words(heartbeat.failure)}" if heartbeat.failure else ""
    if heartbeat.ended_at:
        return f"ended {_time(heartbeat.ended_at)} after {passes}{failure}"
    ago = timedelta(seconds=int((now - heartbeat.beat_at).total_seconds()))
    if heartbeat.is_silent(now):
        return f"silent for {ago}: it was killed, or its machine is down"
    return f"every {heartbeat.every_seconds:,.0f} s since {_time(heartbeat.started_at)}, {passes}{failure}"


def _verified(summary: "Summary") -> str:
    verification = summary.verification
    if verification is None:
        return "never"
    from ahi_catalog.pipeline.verify import findings

    when = _time(verification.finished_at) or f"begun {_time(verification.started_at)}, not finished"
    scope = findings.scope_in_words(verification)
    of = f" (of {scope})" if scope else ""
    left = f", {verification.unrepaired:,} left to mend" if verification.unrepaired else ""
    mended = ", mended" if verification.is_repairing and verification.findings and not left else ""
    return f"{when}{of}: {findings.in_words(verification)}{left}{mended}"


def _unknown_fields(summary: "Summary") -> str:
    return ", ".join(f"{name} since {_time(since)}" for name, since in summary.unknown_fields.items()) or "none"


def _lag(summary: "Summary", now: datetime) -> int | None:
    return int((now - summary.watermark).total_seconds()) if summary.watermark else None


def _time(moment: datetime | None) -> str | None:
    return format_time(moment) if moment else None


def _phi(policy: "PhiPolicy") -> str:
    """The policy as a user asks for it: ``pseudonymize --shift-dates``."""
    flags = [" --keep-text"] * policy.keep_text + [" --shift-dates"] * policy.shift_dates
    return str(policy.policy) + "".join(flags)
