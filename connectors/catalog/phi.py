"""The PHI policy in catalog.json, and against what a run asks for. Pure."""

from typing import Any

from ahi_catalog.connectors.errors import UsageError
from ahi_catalog.schemas import PhiPolicy, Policy


def encode_policy(policy: PhiPolicy) -> Any:
    """The policy as JSON goes: ``keep`` and ``drop`` are a word, `pseudonymize` has its parts."""
    if policy.policy is not Policy.PSEUDONYMIZE:
        return str(policy.policy)
    return {
        "policy": str(policy.policy),
        "keep_text": policy.keep_text,
        "shift_dates": policy.shift_dates,
        "key_check": policy.key_check,
    }


def decode_policy(document: Any) -> PhiPolicy:
    """The policy of `encode_policy`.

    Raises:
        ValueError: The document is none, or one that this version does not know.
    """
    if isinstance(document, str):
        return PhiPolicy(policy=Policy(document))
    match document:
        case {"policy": str(policy), "keep_text": bool(text), "shift_dates": bool(shift), "key_check": str(check)} if (
            len(document) == len(encode_policy(PhiPolicy(policy=Policy.PSEUDONYMIZE, key_check="")))
        ):
            return PhiPolicy(policy=Policy(policy), keep_text=text, shift_dates=shift, key_check=check)
    raise ValueError("not a PHI policy that this version knows")


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
            f"the catalog at {url} was made with --phi {fixed}, which cannot be changed; "
            f"leave the PHI options out, or sync into a new catalog"
        )
    if asked.key_check != fixed.key_check:
        raise UsageError(
            f"the PHI key is not the one that the catalog at {url} was made with (check value {asked.key_check}, "
            f"the catalog's is {fixed.key_check}); give that key, or sync into a new catalog"
        )
