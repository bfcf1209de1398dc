"""The PHI policy of a run: what it asks for, its key, and what both make of rows."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

from ahi_catalog.connectors.catalog import Catalog
from ahi_catalog.connectors.catalog.description import refuse_other
from ahi_catalog.connectors.errors import AhiCatalogError
from ahi_catalog.connectors.phi_key import load_phi_key
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.schemas import PhiKey, PhiPolicy, Policy, Protect, protection

LoadKey = Callable[[], PhiKey]
"""Loads the key once; only `pseudonymize` needs it."""


def key_of(settings: Settings) -> LoadKey:
    """The run's key, read from its place when it is first asked for."""
    return cache(partial(load_phi_key, settings.phi_key_from, {"prefect-secret": _from_prefect}))


def asked_policy(settings: Settings, load_key: LoadKey) -> PhiPolicy | None:
    """The policy that a run asks for; None: the catalog's own."""
    if settings.phi is None:
        return None
    policy = Policy(settings.phi)
    return PhiPolicy(
        policy=policy,
        keep_text=settings.keep_text,
        shift_dates=settings.shift_dates,
        key_check=load_key().check if policy is Policy.PSEUDONYMIZE else None,
    )


def protection_of(catalog: Catalog, load_key: LoadKey) -> Protect:
    """What a catalog's policy makes of rows: applied once, where they leave the scan.

    Raises:
        UsageError: The key is not the one that the catalog was made with.
    """
    return _protection(catalog.description.phi, load_key, catalog.store.url)


@cache
def protection_by(policy: PhiPolicy, settings: Settings) -> Protect:
    """The same in another process of the run, which reads the key once, from its own place.

    Raises:
        UsageError: The key is not the one that the catalog was made with.
    """
    return _protection(policy, key_of(settings), settings.catalog)


def _protection(policy: PhiPolicy, load_key: LoadKey, url: str) -> Protect:
    key = load_key() if policy.policy is Policy.PSEUDONYMIZE else None
    if key is not None:
        refuse_other(replace(policy, key_check=key.check), policy, url)
    return protection(policy, key)


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
