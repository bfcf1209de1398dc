"""Credentials, region and quota: what boto3 finds on this machine, and what the account may do."""

from typing import Any, Final

import botocore.exceptions

from ahi_catalog.connectors.aws import Credentials, current_session, has_custom_endpoint
from ahi_catalog.connectors.aws_failures import UNANSWERED
from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.connectors.healthimaging.pages import PAGE_ROWS
from ahi_catalog.connectors.settings import Quota
from ahi_catalog.doctor.check import Check, fix, note, ok

_QUOTA_OF: Final = "SearchImageSets"


def check_credentials() -> Check:
    """Whether boto3 finds credentials, and where; never what they are."""
    name = "credentials"
    try:
        credentials = Credentials(current_session())
        credentials.get()
    except UsageError as error:
        return fix(name, str(error))
    return ok(name, f"found ({credentials.method})")


def check_region(client: Any) -> Check:
    """Where requests to HealthImaging go.

    Args:
        client: boto3's client; boto3 makes none without a region.
    """
    region = client.meta.region_name
    if has_custom_endpoint(client):
        return note("region", f"{region}, at {client.meta.endpoint_url} (AWS_ENDPOINT_URL_MEDICAL_IMAGING), not at AWS")
    return ok("region", f"{region}, at {client.meta.endpoint_url}")


def check_quota(quotas: Any, asked: Quota) -> Check:
    """Whether the rate of the settings is within the account's quota.

    Args:
        quotas: boto3's client of Service Quotas; None where HealthImaging is not AWS's, which has no such quota.
        asked: Rate and burst of the settings.
    """
    name = "quota"
    pace = (
        f"{asked.rate:g} requests a second: a million image sets take {1e6 / PAGE_ROWS / asked.rate / 60:,.1f} minutes"
    )
    if quotas is None:
        return note(name, pace)
    try:
        pages = quotas.get_paginator("list_service_quotas").paginate(ServiceCode="medical-imaging")
        values = [quota["Value"] for page in pages for quota in page["Quotas"] if _QUOTA_OF in quota["QuotaName"]]
    except (botocore.exceptions.ClientError, *UNANSWERED):
        return note(name, f"{pace}; allow servicequotas:ListServiceQuotas to have it compared with the account's quota")
    if not values:
        return note(name, f"{pace}; Service Quotas tells none for {_QUOTA_OF} (25 unless it was raised)")
    if asked.rate > min(values):
        return fix(name, f"`rate` {asked.rate:g} is above the account's {min(values):g} a second: lower it")
    return ok(name, f"{pace}; the account allows {min(values):g}")
