"""The sink: layout, merge, publish, checkpoint, and the stores they lie in."""

from ahi_catalog.connectors.catalog.catalog import Catalog, open_catalog, open_or_create
from ahi_catalog.connectors.catalog.checkpoint import Checkpoint
from ahi_catalog.connectors.catalog.layout import Partition, Unit
from ahi_catalog.connectors.catalog.publishing import Batch, Published, publish
from ahi_catalog.connectors.storage import Store, open_store

__all__ = [
    "Batch",
    "Catalog",
    "Checkpoint",
    "Partition",
    "Published",
    "Store",
    "Unit",
    "open_catalog",
    "open_or_create",
    "open_store",
    "publish",
]
