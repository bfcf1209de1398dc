"""A Parquet catalog of AWS HealthImaging data stores: exactly one row an image set.

>>> from ahi_catalog import Catalog
>>> catalog = Catalog("s3://my-bucket/imaging")

The names in ``__all__`` are the public interface. They are imported when they are first asked for: pyarrow takes its
time, and ``ahi-catalog --help`` does without.
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ahi_catalog.connectors.catalog.reading import Answer, Catalog
    from ahi_catalog.connectors.errors import AhiCatalogError

__all__ = ["AhiCatalogError", "Answer", "Catalog"]

_HOMES: Final = {
    "AhiCatalogError": "ahi_catalog.connectors.errors",
    "Answer": "ahi_catalog.connectors.catalog.reading",
    "Catalog": "ahi_catalog.connectors.catalog.reading",
}


def __getattr__(name: str) -> Any:
    """A public name, imported from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
