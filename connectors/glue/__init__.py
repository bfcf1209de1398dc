"""The Glue Data Catalog, where Athena looks its tables up: the catalog's table in it, made and kept up to date."""

from ahi_catalog.connectors.glue.registering import open_glue, register

__all__ = ["open_glue", "register"]
