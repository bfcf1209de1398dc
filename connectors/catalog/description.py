"""catalog.json: what is fixed when a catalog is created. Pure: JSON and back."""

import json
from dataclasses import dataclass
from typing import Final

from connectors.catalog.checkpoint import parse_state
from connectors.catalog.layout import Unit
from connectors.errors import StateError

FORMAT: Final = 1
_KEEP: Final = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What is fixed when a catalog is created.

    Attributes:
        unit: The span of createdAt in one data object.
        phi: What is done with patients' data; ``keep`` is the one policy so far.
    """

    unit: Unit
    phi: str = _KEEP


def encode(description: Description) -> bytes:
    """The description as JSON."""
    document = {"format": FORMAT, "partition": str(description.unit), "phi": description.phi}
    return json.dumps(document, indent=1).encode() + b"\n"


def decode(body: bytes) -> Description:
    """The description of a catalog.

    Raises:
        StateError: The bytes are none, or one of another format or of a policy that this version does not know.
    """
    document = parse_state(body, "catalog.json", FORMAT, "restore it, or sync into a new catalog")
    if document.get("partition") not in [str(unit) for unit in Unit] or document.get("phi") != _KEEP:
        raise StateError(
            "catalog.json asks for a partition unit or PHI policy that this version does not know; upgrade"
        )
    return Description(unit=Unit(document["partition"]), phi=document["phi"])
