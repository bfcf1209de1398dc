"""Rows of deleted image sets, removed wherever they lie; only the service's own word says that one is deleted."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from ahi_catalog.connectors.catalog import Batch, Partition
from ahi_catalog.connectors.catalog.dataset import find_image_sets
from ahi_catalog.connectors.errors import StoppedError
from ahi_catalog.connectors.healthimaging.executor import RequestCounts
from ahi_catalog.connectors.healthimaging.source import ImageSet
from ahi_catalog.connectors.retrying import retry_on_conflict
from ahi_catalog.connectors.windows import NOWHERE
from ahi_catalog.pipeline.run import Run
from ahi_catalog.pipeline.sink import Sink
from ahi_catalog.schemas import IMAGE_SETS


def remove_deleted(run: Run, image_set_ids: Collection[str], sink: Sink) -> tuple[set[str], dict[str, ImageSet]]:
    """Asks GetImageSet about image sets, and has the rows of deleted ones removed, whatever their age.

    Args:
        run: The run.
        image_set_ids: The image sets.
        sink: Takes a batch for each partition that has rows to remove.

    Returns:
        Those that are deleted, and what the service says of the others. When the run is stopping, those not yet asked
        about are in neither.

    Raises:
        SourceError: The service refuses, or failed so often that the run gives up.
        StateError: A data object cannot be read.
        StoreError: One cannot be got or written.
    """
    answers = _look_up(run, image_set_ids)
    deleted = {name: found for name, found in answers.items() if found is None or found.is_deleted}
    places: dict[Partition, list[str]] = {}
    forgotten = []
    for name, found in deleted.items():
        if found is None or found.created_at is None:
            forgotten.append(name)
        else:
            partition = Partition.of(run.datastore_id, run.catalog.description.unit, found.created_at)
            places.setdefault(partition, []).append(name)
    if forgotten:
        # The service no longer says when they were created, so the catalog is asked.
        known = retry_on_conflict(find_image_sets, run.catalog, run.datastore_id, forgotten)
        for partition, names in known.items():
            places.setdefault(partition, []).extend(names)
    nothing = IMAGE_SETS.schema.empty_table()
    for partition, names in places.items():
        batch = Batch(table=IMAGE_SETS, partition=partition, rows=nothing, scanned=NOWHERE, deleted=names)
        sink.count(sink.write(batch))
    return set(deleted), {name: found for name, found in answers.items() if found and not found.is_deleted}


def is_young(run: Run, found: ImageSet) -> bool:
    """Whether changes are not yet followed to the image set's last one, so that no run need have read it."""
    last = max(filter(None, (found.created_at, found.updated_at)), default=None)
    followed_to = run.report.followed_to
    return last is not None and (followed_to is None or last >= followed_to)


def _look_up(run: Run, image_set_ids: Collection[str]) -> dict[str, ImageSet | None]:
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
