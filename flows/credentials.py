"""AWS credentials out of a Prefect block, for whoever keeps them there rather than where boto3 looks.

The block (`AwsCredentials` of prefect-aws, extra ``aws``) gives credentials and region. Endpoints and TLS stay
boto3's own settings, whatever the block's client parameters say.
"""

import boto3
import botocore.exceptions as boto

from ahi_catalog.connectors.aws_failures import UNANSWERED, credentials_failure
from ahi_catalog.connectors.errors import UsageError, missing_extra


def find_session(block: str) -> boto3.Session:
    """A session with the credentials and the region of a block.

    Where the block assumes a role, its credentials end after an hour or what the block says; a run that outlives
    them fails, and its retry finds new ones here.

    Args:
        block: The block's name.

    Raises:
        UsageError: There is no such block, or no session can be made of it.
    """
    try:
        from prefect_aws import AwsCredentials  # noqa: PLC0415  # an extra
    except ImportError:
        raise missing_extra("a block of credentials", "aws") from None
    # Unchained: what these quote is not ours.
    try:
        loaded = AwsCredentials.load(block)
    except ValueError:
        raise UsageError(f"Prefect has no AwsCredentials block named {block}; make it on the page Blocks") from None
    if not isinstance(loaded, AwsCredentials):
        raise UsageError("a block of credentials is read in a flow that is not async")
    try:
        session: boto3.Session = loaded.get_boto3_session()
    except ValueError:
        raise UsageError(f"the block {block} makes no session; check it on the page Blocks") from None
    except (boto.ClientError, *UNANSWERED) as error:
        raise UsageError(f"the block {block}: {credentials_failure(error, None)}") from None
    return session
