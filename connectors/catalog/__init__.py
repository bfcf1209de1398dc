"""The sink: layout, merge, publish, checkpoint, and the stores they lie in."""

from connectors.catalog.catalog import Catalog, open_catalog, open_or_create
from connectors.catalog.checkpoint import Checkpoint
from connectors.catalog.layout import Partition, Unit
from connectors.catalog.publishing import Batch, Published, publish
from connectors.catalog.store import Store, open_store

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
