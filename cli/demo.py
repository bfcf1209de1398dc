"""`ahi-catalog demo`: the main job on the embedded service and a real public catalog."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from ahi_catalog.cli.options import Number, Rows, option
from ahi_catalog.connectors.errors import missing_extra

_QUERIES: Final = {
    "What is there? Series, studies and patients by modality": """
        select series_modality as modality, count(*) as series, count(distinct study_instance_uid) as studies,
               count(distinct patient_id) as patients
        from image_sets group by 1 order by series desc limit 8""",
    "When did it arrive? Image sets by year, and how many have changed since": """
        select cast(year(created_date) as text) as year, count(*) as image_sets,
               count(*) filter (version > 1) as changed_since, max(updated_at)::date as last_change
        from image_sets group by 1 order by 1""",
    "What is where? Body parts seen with both CT and MR, by patients": """
        select upper(series_body_part) as body_part, count(distinct patient_id) as patients,
               count(*) filter (series_modality = 'CT') as ct, count(*) filter (series_modality = 'MR') as mr
        from image_sets where series_body_part <> '' group by 1 having ct > 0 and mr > 0
        order by patients desc limit 5""",
}

_METADATA_QUERIES: Final = {
    "How large is it? Of what is not archived, by modality and manufacturer": """
        select modality, manufacturer, count(*) as series, sum(instances) as instances,
               round(sum(bytes) / 1e9, 1) as gigabytes
        from series group by 1, 2 order by sum(bytes) desc limit 8""",
    "What does storage cost a month, and what would archiving it save, in dollars?": """
        select storage_tier, sum(image_sets) as image_sets, sum(image_sets_read) as read,
               round(sum(billed_gigabytes), 1) as gigabytes, sum(dollars_a_month)::decimal(18, 2) as dollars,
               sum(archiving_saves)::decimal(18, 2) as saving
        from storage group by 1 order by 1 desc""",
    "Which CT series have slices under 1.5 mm? (Made up: the index does not say)": """
        select manufacturer_model_name as model, slice_thickness, convolution_kernel as kernel, count(*) as series
        from series where modality = 'CT' and slice_thickness < 1.5 group by 1, 2, 3 order by 4 desc limit 5""",
}


@click.command()
# Not `option`: a variable that names the real catalog must not send the demo's rows there.
@click.option(
    "--catalog", default="demo-catalog", metavar="FOLDER", show_default=True, help="Where to put the catalog."
)
@option(
    "--rows",
    type=Rows,
    default=52_000,
    metavar="N",
    help="About how many series, at most 1,009,557; the same in later runs.",
)
@option("--rate", type=Number, default=25.0, metavar="N", help="Requests a second; the service throttles beyond 25.")
@option(
    "--prefect/--no-prefect",
    default=True,
    help="Run as a Prefect flow, on a temporary server where none is named; or on plain threads.",
)
def demo(*, catalog: str, rows: int, rate: float, prefect: bool) -> int:
    """Run the main job here and now: sync a real public catalog, read what metadata is cheap to read, and query it.

    The embedded service plays AWS HealthImaging, quota and all, with the NCI Imaging Data Commons in it. The first
    run syncs all but the newest release of it (two minutes); a second run is incremental and brings that release.
    """
    from ahi_catalog.cli.metadata import metadata_flow
    from ahi_catalog.cli.query import write_answer
    from ahi_catalog.cli.running import run_chosen
    from ahi_catalog.cli.runs import sync_flow
    from ahi_catalog.connectors.catalog import open_catalog, open_store  # `--help` does without pyarrow
    from ahi_catalog.connectors.catalog.querying import run_query
    from ahi_catalog.pipeline.metadata import for_metadata, read_metadata
    from ahi_catalog.pipeline.sync import sync

    try:
        from ahi_catalog.emulator.idc import ATTRIBUTION
    except ImportError:
        raise missing_extra("the embedded service", "demo") from None

    as_of = _as_of(catalog)
    click.echo(f"Data: {ATTRIBUTION}", err=True)
    click.echo(f"Loading the embedded service with the catalog as of {as_of:%Y-%m-%d} …", err=True)
    with _embedded_service(rows, as_of) as datastore_id:
        given: dict[str, Any] = {
            "catalog": catalog,
            "datastore_id": [datastore_id],
            "all": False,
            "rate": rate,
            "burst": 50,
            "share": 1.0,
            "prefect": prefect,
            "as_json": False,
        }
        code = run_chosen(sync, sync_flow, **given)
        if not code:
            click.echo("Reading the metadata of what is not archived …", err=True)
            code = run_chosen(read_metadata, metadata_flow, adjust=for_metadata, **given)
    if code:
        return code
    opened = open_catalog(open_store(catalog))
    for title, sql in {**_QUERIES, **_METADATA_QUERIES}.items():
        write_answer(run_query(opened, sql), "table", title=title)
    # After `make demo` it lies in .venv/bin, which is on nobody's path yet.
    command = "ahi-catalog" if shutil.which("ahi-catalog") else os.path.relpath(sys.argv[0])
    click.echo(f'Ask it yourself: {command} query --catalog {catalog} "from studies limit 3"')
    click.echo("Run the demo again for an incremental sync.")
    return code


def _as_of(catalog: str) -> datetime:
    """The day that the demo plays: after the release before last; on later runs one release further."""
    from ahi_catalog.connectors.catalog import open_catalog, open_store
    from ahi_catalog.connectors.catalog.layout import DESCRIPTION_KEY
    from ahi_catalog.emulator.idc import RELEASE_SPAN, RELEASES

    playable = [release + RELEASE_SPAN + timedelta(days=1) for release in RELEASES[-2:]]
    store = open_store(catalog)
    if store.get(DESCRIPTION_KEY) is None:
        return playable[0]
    opened = open_catalog(store)
    checkpoints = (opened.checkpoint(found) for found in opened.datastore_ids())
    watermarks = [c.watermark for c in checkpoints if c and c.watermark]
    latest = max(watermarks, default=datetime.min.replace(tzinfo=UTC))
    return next((day for day in playable if day - timedelta(hours=1) > latest), latest + timedelta(hours=1))


@contextmanager
def _embedded_service(rows: int, as_of: datetime) -> Iterator[str]:
    """The service under way, and boto3 pointed at it; the data store's id."""
    from ahi_catalog.emulator import Emulator, Service, ServiceOptions
    from ahi_catalog.emulator.idc import load_idc

    service = Service(ServiceOptions(latency=0.05))
    service.advance(as_of - datetime.now(UTC))
    datastore_id = load_idc(service, rows=rows, as_of=as_of)
    with Emulator(service) as emulator:
        os.environ.pop("AWS_PROFILE", None)
        os.environ |= {
            "AWS_CONFIG_FILE": os.devnull,  # of the user's configuration nothing is needed, and it may be broken
            "AWS_ENDPOINT_URL_MEDICAL_IMAGING": emulator.url,
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",  # the embedded service takes any
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        yield datastore_id
