"""The two ends of the connector, HealthImaging and the Parquet catalog, and what to read a catalog with.

>>> from connectors import Catalog
>>> catalog = Catalog("s3://my-bucket/imaging")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connectors.reading import Catalog

__all__ = ["Catalog"]


def __getattr__(name: str) -> Any:
    """Catalog, imported when it is asked for: pyarrow takes its time, and most of this package does without."""
    if name == "Catalog":
        from connectors.reading import Catalog  # noqa: PLC0415

        return Catalog
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
