"""A catalog as commands that only read it open it."""

from typing import TYPE_CHECKING, Any

from ahi_catalog.cli.options import catalog_option, http_option, options, owner_option
from ahi_catalog.connectors.settings import S3Access

if TYPE_CHECKING:
    from ahi_catalog.connectors.catalog import Catalog

read_options = options(catalog_option, owner_option, http_option)


def open_to_read(url: str, **access: Any) -> "Catalog":
    """The catalog that `read_options` name.

    Raises:
        AhiCatalogError: There is none, it cannot be read, or another account owns its bucket.
    """
    from ahi_catalog.connectors.catalog import open_catalog, open_store  # `--help` does without pyarrow

    return open_catalog(open_store(url, S3Access(**access)))
