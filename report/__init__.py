"""What is in a catalog, in counts that can be shown to anyone: no identifier, no free text, no small group.

Aggregation only; :mod:`ahi_catalog.report.page` draws it.
"""

from ahi_catalog.report.collect import DatastoreReport, collect

__all__ = ["DatastoreReport", "collect"]
