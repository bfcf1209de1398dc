"""The PHI policy of a run: what it asks for, its key, and what both make of rows."""

from collections.abc import Callable
from dataclasses import replace

from ahi_catalog.connectors.catalog.description import refuse_other
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.schemas import IMAGE_SETS, PhiKey, PhiPolicy, Policy, Protect, Table, protection

LoadKey = Callable[[str], PhiKey]
"""Loads the key of pseudonyms by where it is kept; a function of a module, so that Dask can pickle it."""


def asked_policy(settings: Settings, load_key: LoadKey) -> PhiPolicy | None:
    """The policy that a run asks for; None: the catalog's own."""
    if settings.phi is None:
        return None
    policy = Policy(settings.phi)
    return PhiPolicy(
        policy=policy,
        keep_text=settings.keep_text,
        shift_dates=settings.shift_dates,
        key_check=load_key(settings.phi_key_from).check if policy is Policy.PSEUDONYMIZE else None,
    )


def make_protection(
    policy: PhiPolicy,
    settings: Settings,
    load_key: LoadKey,
    table: Table = IMAGE_SETS,
    keywords: tuple[tuple[str, str], ...] = (),
) -> Protect:
    """What a catalog's policy makes of rows.

    Args:
        policy: In catalog.json.
        settings: Of the run: where the key is kept, and where the catalog lies.
        load_key: Loads the key.
        table: What the rows are of.
        keywords: Of its column `attributes`, each with its VR.

    Raises:
        UsageError: The key is not the one that the catalog was made with.
    """
    key = load_key(settings.phi_key_from) if policy.policy is Policy.PSEUDONYMIZE else None
    if key is not None:
        refuse_other(replace(policy, key_check=key.check), policy, settings.catalog)
    return protection(table, policy, key, keywords=dict(keywords))
