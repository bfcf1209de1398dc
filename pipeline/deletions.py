"""Rows of deleted image sets, removed wherever they lie; only the service's own word says that one is deleted."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from ahi_catalog.connectors.catalog import Batch, Partition, publish
from ahi_catalog.connectors.catalog.dataset import find_partitions
from ahi_catalog.connectors.errors import StoppedError
from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.source import ImageSet
from ahi_catalog.connectors.retrying import retry_on_conflict
from ahi_catalog.connectors.windows import NOWHERE
from ahi_catalog.pipeline.run import Run
from ahi_catalog.schemas import IMAGE_SETS


def look_up_all(run: Run, image_set_ids: Collection[str]) -> dict[str, ImageSet | None]:
    """What GetImageSet says of image sets, deleted ones too; when the run is stopping, of those asked about by then."""
    answers: dict[str, ImageSet | None] = {}

    def ask(image_set_id: str) -> None:
        counts = RequestCounts()
        try:
            answers[image_set_id] = run.source.look_up_any(image_set_id, counts)
        except StoppedError:
            pass
        finally:
            run.look_ups.append(counts)

    with ThreadPoolExecutor(run.settings.workers, thread_name_prefix="look-up") as threads:
        for _ in threads.map(ask, image_set_ids):
            pass
    return answers


def remove_rows(run: Run, deleted: Mapping[str, datetime | None]) -> None:
    """Removes the rows of deleted image sets, whatever their age; what the run publishes later brings none back.

    Args:
        run: The run.
        deleted: When each was created, as the service confirmed its deletion; None where it no longer knows.

    Raises:
        StateError: A data object cannot be read.
        StoreError: One cannot be got or written.
    """
    run.deleted.update(deleted)
    unit = run.catalog.description.unit
    places: dict[Partition, list[str]] = {}
    for image_set_id, created in deleted.items():
        if created is not None:
            places.setdefault(Partition.of(run.datastore_id, unit, created), []).append(image_set_id)
    if forgotten := [image_set_id for image_set_id, created in deleted.items() if created is None]:
        found = retry_on_conflict(find_partitions, run.catalog, run.datastore_id, forgotten)
        for partition, names in found.items():
            places.setdefault(partition, []).extend(names)
    nothing = IMAGE_SETS.schema.empty_table()
    for partition, names in places.items():
        batch = Batch(table=IMAGE_SETS, partition=partition, rows=nothing, scanned=NOWHERE, deleted=names)
        run.report.count_published(publish(run.catalog.store, batch, run.confirm_deleted))
