"""The command line. Importing it is cheap: Prefect, boto3 and pyarrow are imported by the commands that need them."""

from ahi_catalog.cli.main import main

__all__ = ["main"]
