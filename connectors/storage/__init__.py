"""Where the catalog's bytes lie: S3, a local folder, or memory, behind one small interface."""

from ahi_catalog.connectors.storage.base import Entry, Store, Stored
from ahi_catalog.connectors.storage.local import LocalStore
from ahi_catalog.connectors.storage.memory import MemoryStore
from ahi_catalog.connectors.storage.opening import open_store

__all__ = ["Entry", "LocalStore", "MemoryStore", "Store", "Stored", "open_store"]
