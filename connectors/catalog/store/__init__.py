"""Where the catalog's bytes lie: S3, a local folder, or memory, behind one small interface."""

from connectors.catalog.store.base import Entry, Store, Stored
from connectors.catalog.store.local import LocalStore
from connectors.catalog.store.memory import MemoryStore
from connectors.catalog.store.opening import open_store

__all__ = ["Entry", "LocalStore", "MemoryStore", "Store", "Stored", "open_store"]
