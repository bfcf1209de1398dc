"""The block type with which a team keeps in one place where a catalog is, what it holds and how it is reached."""

from typing import Annotated, Any, ClassVar

from prefect.blocks.core import Block
from pydantic import AfterValidator, Field

from ahi_catalog.connectors import aws
from ahi_catalog.connectors.catalog.reading import Catalog as Reader
from ahi_catalog.connectors.settings import Burst, Catalog, Rate
from ahi_catalog.flows.credentials import find_session
from ahi_catalog.flows.parameters import USUAL, BlockName, DatastoreIds, check_options


class AhiCatalog(Block):
    """A catalog of AWS HealthImaging data stores: where it is, what it holds, how it is written and reached.

    ``sync(**AhiCatalog.load("radiology").parameters())`` syncs it, and ``AhiCatalog.load("radiology").open()`` reads
    it, each in a flow of one's own. It holds no credential: `credentials` is the name of a block that does.
    """

    _block_type_name: ClassVar[str] = "AHI Catalog"
    _block_type_slug: ClassVar[str] = "ahi-catalog"

    catalog: Catalog
    datastore_ids: DatastoreIds = None
    rate: Rate = USUAL.rate
    burst: Burst = USUAL.burst
    credentials: BlockName = None
    options: Annotated[
        dict[str, Any],
        AfterValidator(check_options),
        Field(description='What a run seldom needs to be told: {"phi": "pseudonymize", "settle": "30m"}.'),
    ] = Field(default_factory=dict)

    def parameters(self) -> dict[str, Any]:
        """The parameters of a sync, or of a verify; with a start and an end, of a backfill."""
        names = ("catalog", "datastore_ids", "rate", "burst", "credentials", "options")
        return {name: getattr(self, name) for name in names}

    def open(self) -> Reader:
        """The catalog, to read with the block's credentials.

        Raises:
            UsageError: There is no catalog, or no such block of credentials.
            StoreError: The store refuses, or cannot be reached.
        """
        with aws.using(find_session(self.credentials) if self.credentials else None):
            return Reader(self.catalog, allow_http=bool(self.options.get("allow_http")))
