"""catalog.json: what is fixed when a catalog is created. Pure: JSON and back."""

import json
import re
from dataclasses import dataclass, field
from typing import Final

from ahi_catalog.connectors.catalog.checkpoint import parse_state
from ahi_catalog.connectors.catalog.layout import Unit
from ahi_catalog.connectors.catalog.phi import decode_policy, encode_policy
from ahi_catalog.connectors.errors import DamagedError, StateError
from ahi_catalog.schemas import PhiPolicy

FORMAT: Final = 1
_ID: Final = re.compile(r"[0-9a-f]{32}|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What is fixed when a catalog is created.

    Attributes:
        unit: The span of createdAt in one data object.
        catalog_id: Tells this catalog from every other; its checkpoints carry it. Empty in a catalog that is older
            than these ids.
        is_single_writer: Whether only one run at a time may write, because the store has no conditional writes.
        phi: What is done with patients' data.
    """

    unit: Unit
    catalog_id: str = ""
    is_single_writer: bool = False
    phi: PhiPolicy = field(default_factory=PhiPolicy)


def encode(description: Description) -> bytes:
    """The description as JSON."""
    document = {
        "format": FORMAT,
        "catalog_id": description.catalog_id,
        "partition": str(description.unit),
        "phi": encode_policy(description.phi),
        "single_writer": description.is_single_writer,
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def decode(body: bytes) -> Description:
    """The description of a catalog.

    Raises:
        StateError: The bytes are none, or one of another format or of a policy that this version does not know.
    """
    advice = "restore it, or sync into a new catalog"
    document = parse_state(body, "catalog.json", FORMAT, advice)
    catalog_id, is_single_writer = document.get("catalog_id", ""), document.get("single_writer", False)
    if not (isinstance(catalog_id, str) and _ID.fullmatch(catalog_id) and isinstance(is_single_writer, bool)):
        raise DamagedError(f"catalog.json is damaged; {advice}")
    try:
        unit, phi = Unit(str(document.get("partition"))), decode_policy(document.get("phi"))
    except ValueError:
        raise StateError(
            "catalog.json asks for a partition unit or PHI policy that this version does not know; upgrade"
        ) from None
    return Description(unit=unit, catalog_id=catalog_id, is_single_writer=is_single_writer, phi=phi)
