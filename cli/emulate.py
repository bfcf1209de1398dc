"""`ahi-catalog emulate`: the embedded HealthImaging service on its own."""

import os
from contextlib import suppress

import click

from ahi_catalog.cli.options import Rows, option
from ahi_catalog.connectors.errors import AhiCatalogError, missing_extra

_port_option = click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, metavar="N", help="The port on 127.0.0.1."
)
"""Without a variable: Kubernetes would set AHI_CATALOG_PORT beside a Service named ahi-catalog."""

_TRY_IT = """\
  export AWS_ENDPOINT_URL_MEDICAL_IMAGING={url}
  export AWS_DISABLE_HOST_PREFIX_INJECTION=true AWS_DEFAULT_REGION=us-east-1
  export AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any
  ahi-catalog sync --catalog ./catalog --datastore-id {datastore_id}"""


@click.command()
@_port_option
@option("--rows", type=Rows, default=50_000, metavar="N", help="About how many series, at most 1,009,557.")
@option("--dicom-files", is_flag=True, help="pydicom's own files in place of the Imaging Data Commons.")
@option("--throttle", type=float, default=25.0, metavar="N", help="Requests a second (of metadata 50); 0 for no limit.")
@option("--latency", type=float, default=0.0, metavar="SECONDS", help="That every answer takes.")
@option(
    "--older-api", is_flag=True, help="Ignore sort, and refuse filters on updatedAt, as the older reference has it."
)
@option("--exclusive-between", is_flag=True, help="Let BETWEEN leave out its two ends.")
@option(
    "--metadata-lag", type=float, default=5.0, metavar="SECONDS", help="Until metadata of what is new is consistent."
)
@option("--visibility-lag", type=float, default=0.0, metavar="SECONDS", help="Until search shows a change.")
def emulate(
    *,
    port: int,
    rows: int,
    dicom_files: bool,
    throttle: float,
    latency: float,
    older_api: bool,
    exclusive_between: bool,
    metadata_lag: float,
    visibility_lag: float,
) -> None:
    """Serve the embedded HealthImaging service on 127.0.0.1, with real public data, until Ctrl-C.

    It prints the variables that point boto3 at it. It answers SearchImageSets, GetImageSet, GetImageSetMetadata,
    ListDatastores and GetDatastore as botocore's model describes them, errors and throttling included. It is made for
    trying and testing, and is no secure server.

    \b
    As DICOM files have it, at no limit:
      ahi-catalog emulate --dicom-files --throttle 0
    """
    try:
        from ahi_catalog.emulator import Service, ServiceOptions, listen, run_forever
        from ahi_catalog.emulator.dicom_files import load_dicom_files
        from ahi_catalog.emulator.idc import ATTRIBUTION, load_idc
    except ImportError:
        raise missing_extra("the embedded service", "demo") from None

    try:
        listening = listen(port)
    except OSError as error:
        raise AhiCatalogError(
            f"cannot listen on port {port}: {os.strerror(error.errno or 0)}; take another --port"
        ) from None
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    service = Service(
        ServiceOptions(
            rate=throttle or None,
            latency=latency,
            older_api=older_api,
            between_inclusive=not exclusive_between,
            metadata_lag=metadata_lag,
            visibility_lag=visibility_lag,
        )
    )
    click.echo("Loading …", err=True)
    if dicom_files:
        datastore_id = service.create_datastore(name="dicom-files")
        try:
            load_dicom_files(service, datastore_id)
        except ModuleNotFoundError:
            raise missing_extra("the embedded service with DICOM files", "demo,dicom") from None
    else:
        datastore_id = load_idc(service, rows=rows)
        click.echo(f"Data: {ATTRIBUTION}", err=True)
    click.echo("Warning: this is no secure server. It asks nobody who they are; keep patients' data out.", err=True)
    with suppress(KeyboardInterrupt):  # Ctrl-C is how it ends, so it is no failure
        click.echo(f"Serving data store {datastore_id} at {url}, until Ctrl-C. In another shell:", err=True)
        click.echo(_TRY_IT.format(url=url, datastore_id=datastore_id), err=True)
        run_forever(service, listening)
