"""A catalog of real rows: a sample of the NCI Imaging Data Commons, synced from the embedded service."""

import os
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ahi_catalog.connectors.settings import Quota, Settings
from ahi_catalog.emulator import Emulator, Service, ServiceOptions
from ahi_catalog.emulator.idc import RELEASES, load_idc
from ahi_catalog.pipeline import sync
from ahi_catalog.pipeline.executors import open_threads

TODAY = datetime(2026, 3, 1, tzinfo=UTC)
DATASTORE_ID = "42".rjust(32, "0")
"""An id that readers take for a number, of int32 even, unless they are told its type."""


def sync_idc(catalogs: Mapping[str, str | Path], *, rows: int, more: Iterable[Mapping[str, Any]] = ()) -> str:
    """Sync a sample into new catalogs; the data store's id.

    Args:
        catalogs: URL or folder of each, by its partition unit, ``day`` or ``month``.
        rows: About how many series.
        more: Summaries to insert beside them, as SearchImageSets lists them with times as datetimes.
    """
    service = Service(ServiceOptions(rate=None))
    service.clock.freeze(TODAY)
    service.create_datastore(name="idc", created_at=RELEASES[0], datastore_id=DATASTORE_ID)
    datastore_id = load_idc(service, DATASTORE_ID, rows=rows)
    service.insert(datastore_id, more)
    with Emulator(service) as emulator, open_threads(4) as executor, pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL_MEDICAL_IMAGING", emulator.url)
        for name in {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"} - os.environ.keys():
            environment.setenv(name, "us-east-1" if name.endswith("REGION") else "test")
        for partition, catalog in catalogs.items():
            settings = Settings(
                catalog=str(catalog),
                datastore_id=datastore_id,
                partition="month" if partition == "month" else "day",
                quota=Quota(rate=100_000, burst=100_000),
            )
            sync.sync(settings, executor, threading.Event(), clock=service.now)
    return datastore_id
