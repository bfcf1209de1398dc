"""The key of a catalog's pseudonyms, out of a Secret block of Prefect too."""

from typing import Final

from ahi_catalog.connectors import phi_key
from ahi_catalog.connectors.errors import AhiCatalogError
from ahi_catalog.schemas import PhiKey

PREFECT_SECRET: Final = "prefect-secret"  # noqa: S105  # a kind of place


def load_phi_key(place: str) -> PhiKey:
    """The key that is kept in a place: ``prefect-secret:NAME``, or one that `connectors.phi_key` knows.

    Raises:
        UsageError: There is no such place, no key in it, or none that is long enough.
        AhiCatalogError: The place cannot be read.
    """
    return phi_key.load_phi_key(place, {PREFECT_SECRET: _from_prefect})


def _from_prefect(name: str) -> bytes:
    from prefect.blocks.system import Secret  # noqa: PLC0415  # takes seconds; other places do without
    from prefect.exceptions import PrefectException  # noqa: PLC0415

    try:
        value = Secret.load(name).get()  # type: ignore[union-attr]
    except (PrefectException, ValueError) as error:
        reason = type(error).__name__
    else:
        return str(value).encode()
    raise AhiCatalogError(f"the PHI key cannot be read from a Secret block of Prefect ({reason}): check its name")
