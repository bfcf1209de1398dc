"""catalog.json: what is fixed when a catalog is created. Pure: JSON and back."""

import json
from dataclasses import dataclass, field
from typing import Final

from connectors.catalog.checkpoint import parse_state
from connectors.catalog.layout import Unit
from connectors.catalog.phi import decode_policy, encode_policy
from connectors.errors import StateError
from schemas import PhiPolicy

FORMAT: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What is fixed when a catalog is created.

    Attributes:
        unit: The span of createdAt in one data object.
        phi: What is done with patients' data.
    """

    unit: Unit
    phi: PhiPolicy = field(default_factory=PhiPolicy)


def encode(description: Description) -> bytes:
    """The description as JSON."""
    document = {"format": FORMAT, "partition": str(description.unit), "phi": encode_policy(description.phi)}
    return json.dumps(document, indent=1).encode() + b"\n"


def decode(body: bytes) -> Description:
    """The description of a catalog.

    Raises:
        StateError: The bytes are none, or one of another format or of a policy that this version does not know.
    """
    document = parse_state(body, "catalog.json", FORMAT, "restore it, or sync into a new catalog")
    try:
        return Description(unit=Unit(str(document.get("partition"))), phi=decode_policy(document.get("phi")))
    except ValueError:
        raise StateError(
            "catalog.json asks for a partition unit or PHI policy that this version does not know; upgrade"
        ) from None
