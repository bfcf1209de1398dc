"""What is in a catalog, in counts that can be shown to anyone: no identifier, no free text, no small group.

Aggregation only; :mod:`flows.page` draws it.
"""

from connectors.reporting.collect import DatastoreReport, collect

__all__ = ["DatastoreReport", "collect"]
