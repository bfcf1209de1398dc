"""What the pages' examples talk to: s3://my-bucket/imaging with a catalog in it, and Glue."""

import boto3
import pytest
from botocore.config import Config

from tests.support.idc_catalog import sync_idc


@pytest.fixture
def aws(s3_url: str, glue_endpoint: str) -> None:
    """Both, with boto3 pointed at them."""
    del s3_url, glue_endpoint
    # A session of its own: the default one keeps the first credentials that it sees.
    client = boto3.Session().client("s3", config=Config(s3={"addressing_style": "path"}))
    if "my-bucket" not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket="my-bucket")
        sync_idc({"day": "s3://my-bucket/imaging"}, rows=300)
