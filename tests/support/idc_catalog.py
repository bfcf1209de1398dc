"""A catalog of real rows: a sample of the NCI Imaging Data Commons, synced from the embedded service."""

import os
import threading
from datetime import UTC, datetime
from pathlib import Path

from connectors.healthimaging.emulator import Emulator, Service, ServiceOptions
from connectors.healthimaging.emulator.idc import load_idc
from connectors.settings import Quota, Settings
from flows import jobs
from flows.runners import ThreadRunner

TODAY = datetime(2026, 3, 1, tzinfo=UTC)


def sync_idc(catalog: str | Path, *, rows: int, partition: str) -> str:
    """Sync a sample into a new catalog; the data store's id.

    Args:
        catalog: URL or folder.
        rows: About how many series.
        partition: ``day`` or ``month``.
    """
    service = Service(ServiceOptions(rate=None))
    service.clock.freeze(TODAY)
    datastore_id = load_idc(service, rows=rows)
    before = os.environ.get("AWS_ENDPOINT_URL_MEDICAL_IMAGING")
    with Emulator(service) as emulator, ThreadRunner(4) as runner:
        os.environ["AWS_ENDPOINT_URL_MEDICAL_IMAGING"] = emulator.url
        try:
            settings = Settings(
                catalog=str(catalog),
                datastore_id=datastore_id,
                partition=partition,
                quota=Quota(rate=100_000, burst=100_000),
            )
            jobs.sync(settings, runner, threading.Event(), clock=service.now)
        finally:
            if before is None:
                del os.environ["AWS_ENDPOINT_URL_MEDICAL_IMAGING"]
            else:
                os.environ["AWS_ENDPOINT_URL_MEDICAL_IMAGING"] = before
    return datastore_id
