"""catalog.json: what is fixed when a catalog is created. Pure: JSON and back."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ahi_catalog.connectors.catalog.checkpoint import parse_state
from ahi_catalog.connectors.catalog.layout import Unit
from ahi_catalog.connectors.errors import DamagedError, StateError, UsageError
from ahi_catalog.schemas import PhiPolicy, Policy

FORMAT: Final = 1
_ID: Final = re.compile(r"[0-9a-f]{32}|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What is fixed when a catalog is created.

    Attributes:
        unit: The span of createdAt in one data object.
        catalog_id: Tells this catalog from every other; its checkpoints carry it. Empty in a catalog that is older
            than these ids.
        phi: What is done with patients' data.
        keywords: Of the column `attributes` of `series`, each with its VR; more may be added.
        has_instances: Whether the table `instances` is kept; once it is, it stays.
    """

    unit: Unit
    catalog_id: str = ""
    phi: PhiPolicy = field(default_factory=PhiPolicy)
    keywords: Mapping[str, str] = field(default_factory=dict)
    has_instances: bool = False


def encode(description: Description) -> bytes:
    """The description as JSON."""
    document = {
        "format": FORMAT,
        "catalog_id": description.catalog_id,
        "partition": str(description.unit),
        "phi": _encode_policy(description.phi),
    }
    if description.keywords or description.has_instances:
        document["metadata"] = {"keywords": dict(description.keywords), "instances": description.has_instances}
    return json.dumps(document, indent=1).encode() + b"\n"


def decode(body: bytes) -> Description:
    """The description of a catalog.

    Raises:
        StateError: The bytes are none, or one of another format, of a policy that this version does not know, or of
            a store without conditional writes.
    """
    advice = "restore it, or sync into a new catalog"
    document = parse_state(body, "catalog.json", FORMAT, advice)
    catalog_id, is_single_writer = document.get("catalog_id", ""), document.get("single_writer", False)
    if not (isinstance(catalog_id, str) and _ID.fullmatch(catalog_id) and isinstance(is_single_writer, bool)):
        raise DamagedError(f"catalog.json is damaged; {advice}")
    if is_single_writer:
        # An older version kept such catalogs where the store ignores conditions.
        raise StateError(
            "the catalog was made for a single writer, on a store without conditional writes, which is no longer "
            "supported; sync into a new catalog on a store that honours them"
        )
    try:
        unit, phi = Unit(str(document.get("partition"))), _decode_policy(document.get("phi"))
    except ValueError:
        raise StateError(
            "catalog.json asks for a partition unit or PHI policy that this version does not know; upgrade"
        ) from None
    match document.get("metadata", {"keywords": {}, "instances": False}):
        case {"keywords": dict(keywords), "instances": bool(has_instances)} if all(
            isinstance(vr, str) for vr in keywords.values()
        ):
            return Description(
                unit=unit, catalog_id=catalog_id, phi=phi, keywords=keywords, has_instances=has_instances
            )
    raise DamagedError(f"catalog.json is damaged; {advice}")


def refuse_other(asked: PhiPolicy, fixed: PhiPolicy, url: str) -> None:
    """Let only the policy through that the catalog was made with.

    Args:
        asked: By a run.
        fixed: In catalog.json.
        url: Of the catalog, for the text.

    Raises:
        UsageError: They differ, or their keys do; says what to do.
    """
    if str(asked) != str(fixed):
        raise UsageError(
            f"the catalog at {url} was made with `phi` {fixed}, which cannot be changed; "
            f"leave the PHI settings out, or sync into a new catalog"
        )
    if asked.key_check != fixed.key_check:
        raise UsageError(
            f"the PHI key is not the one that the catalog at {url} was made with (check value {asked.key_check}, "
            f"the catalog's is {fixed.key_check}); give that key, or sync into a new catalog"
        )


def _encode_policy(policy: PhiPolicy) -> Any:
    """The policy as JSON goes: ``keep`` and ``drop`` are a word, `pseudonymize` has its parts."""
    if policy.policy is not Policy.PSEUDONYMIZE:
        return str(policy.policy)
    return {
        "policy": str(policy.policy),
        "keep_text": policy.keep_text,
        "shift_dates": policy.shift_dates,
        "key_check": policy.key_check,
    }


def _decode_policy(document: Any) -> PhiPolicy:
    """The policy of `_encode_policy`.

    Raises:
        ValueError: The document is none, or one that this version does not know.
    """
    if isinstance(document, str):
        return PhiPolicy(policy=Policy(document))
    match document:
        case {"policy": str(policy), "keep_text": bool(text), "shift_dates": bool(shift), "key_check": str(check)} if (
            len(document) == len(_encode_policy(PhiPolicy(policy=Policy.PSEUDONYMIZE, key_check="")))
        ):
            return PhiPolicy(policy=Policy(policy), keep_text=text, shift_dates=shift, key_check=check)
    raise ValueError("not a PHI policy that this version knows")
