"""The PHI policy of a run: what it asks for, its key, and what both make of rows."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

from ahi_catalog.connectors.catalog import Catalog
from ahi_catalog.connectors.catalog.phi import refuse_other
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.schemas import PhiKey, PhiPolicy, Policy, Protect, protection

LoadKey = Callable[[str], PhiKey]
"""Loads the key from the place that `phi_key_from` names. A function of a module, so that Dask can pickle it."""
Key = Callable[[], PhiKey]
"""The key, loaded once; only `pseudonymize` needs it."""


def key_of(settings: Settings, load_key: LoadKey) -> Key:
    """The run's key, read from its place when it is first asked for."""
    return cache(partial(load_key, settings.phi_key_from))


def asked_policy(settings: Settings, key: Key) -> PhiPolicy | None:
    """The policy that a run asks for; None: the catalog's own."""
    if settings.phi is None:
        return None
    policy = Policy(settings.phi)
    return PhiPolicy(
        policy=policy,
        keep_text=settings.keep_text,
        shift_dates=settings.shift_dates,
        key_check=key().check if policy is Policy.PSEUDONYMIZE else None,
    )


def protection_of(catalog: Catalog, key: Key) -> Protect:
    """What a catalog's policy makes of rows: applied once, where they leave the scan.

    Raises:
        UsageError: The key is not the one that the catalog was made with.
    """
    return _protection(catalog.description.phi, key, catalog.store.url)


@cache
def protection_by(policy: PhiPolicy, settings: Settings, load_key: LoadKey) -> Protect:
    """The same in another process of the run, which reads the key once, from its own place.

    Raises:
        UsageError: The key is not the one that the catalog was made with.
    """
    return _protection(policy, key_of(settings, load_key), settings.catalog)


def _protection(policy: PhiPolicy, key: Key, url: str) -> Protect:
    if policy.policy is not Policy.PSEUDONYMIZE:
        return protection(policy, None)
    refuse_other(replace(policy, key_check=key().check), policy, url)
    return protection(policy, key())
