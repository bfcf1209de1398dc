"""`ahi-catalog iam-policy`."""

import click

from ahi_catalog.cli.datastores import chosen_datastores
from ahi_catalog.cli.options import catalog_option, datastore_options, option, phi_key_option, setting
from ahi_catalog.cli.output import print_json


@click.command(name="iam-policy")
@catalog_option
@datastore_options
@option(
    "--for",
    "jobs",
    type=click.Choice(["sync", "verify", "metadata", "query"]),
    multiple=True,
    help="What to allow; may be given several times. A backfill needs what verify needs.  [default: all]",
)
@option("--account", metavar="ACCOUNT", default="*", help="The data store's account, twelve digits.")
@option("--region", metavar="REGION", help="The data store's region.  [default: boto3's own]")
@setting("kms_key", help="The KMS key that objects in S3 are encrypted with.")
@phi_key_option
@setting("queue", help="An SQS queue of HealthImaging's events that syncs read.")
@option("--queue-kms-key", metavar="KEY", help="The KMS key that the queue's messages are encrypted with.")
@setting("iceberg", help="Iceberg tables that runs mirror into: NAME of a catalog of PyIceberg's, and a NAMESPACE.")
def iam_policy(
    *,
    catalog: str,
    datastore_id: tuple[str, ...],
    jobs: tuple[str, ...],
    account: str,
    region: str | None,
    kms_key: str | None,
    phi_key_from: str,
    queue: str | None,
    queue_kms_key: str | None,
    iceberg: str | None,
    **given: bool,
) -> None:
    """Print the smallest IAM policy that sync, verify, metadata and query need. Calls nothing.

    \b
    For a role that only asks:
      ahi-catalog iam-policy --catalog s3://bucket/imaging --datastore-id ID --for query
    """
    from ahi_catalog.connectors.aws import current_session  # `--help` does without boto3
    from ahi_catalog.connectors.iam import CALLS, Place, policy
    from ahi_catalog.connectors.phi_key import AWS_SECRET
    from ahi_catalog.connectors.settings import check_datastore_id
    from ahi_catalog.connectors.storage.opening import split_url
    from ahi_catalog.pipeline.iceberg import find_iceberg

    datastore_ids = chosen_datastores(datastore_id, every=given["all"]) or ()
    for each in datastore_ids:
        check_datastore_id(each)
    session = current_session()
    region = region or session.region_name or "*"
    bucket, prefix = split_url(catalog)
    kind, _, name = phi_key_from.partition(":")
    place = Place(
        bucket=bucket,
        prefix=prefix,
        datastore_ids=tuple(datastore_ids),
        partition="aws" if region == "*" else session.get_partition_for_region(region),
        region=region,
        account=account,
        kms_key=kms_key,
        secret=name if kind == AWS_SECRET else None,
        queue=queue,
        queue_kms_key=queue_kms_key,
        iceberg=None if iceberg is None else find_iceberg(iceberg),
    )
    print_json(policy(jobs or tuple(CALLS), place))
