"""All checks, in the order in which a user would fix what they find."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from ahi_catalog.connectors import aws
from ahi_catalog.connectors.catalog import Store, open_catalog, open_store
from ahi_catalog.connectors.errors import AhiCatalogError
from ahi_catalog.connectors.healthimaging.client import make_client
from ahi_catalog.connectors.phi_key import load_phi_key
from ahi_catalog.connectors.settings import Settings
from ahi_catalog.connectors.storage import s3
from ahi_catalog.doctor import account, service, storage
from ahi_catalog.doctor.check import Check, Verdict, fix, note, ok
from ahi_catalog.doctor.queue import check_queue
from ahi_catalog.pipeline.privacy import LoadKey, make_protection
from ahi_catalog.schemas import Policy


def examine(
    settings: Settings,
    *,
    load_key: LoadKey = load_phi_key,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[Check]:
    """The checks, each as soon as it is done.

    Args:
        settings: Of the run that shall work.
        load_key: Loads the key of pseudonyms.
        clock: The local clock, aware.
    """
    credentials = account.check_credentials()
    yield credentials
    if credentials.verdict is Verdict.OK:
        yield from _healthimaging(settings, clock)
    else:
        yield note("HealthImaging", "not asked without credentials")
    if settings.queue is not None and credentials.verdict is Verdict.OK:
        yield check_queue(settings.queue)
    if credentials.verdict is Verdict.OK or not settings.catalog.startswith("s3://"):
        yield from _storage(settings, load_key)
    else:
        yield note("storage", "not asked without credentials")


def _healthimaging(settings: Settings, clock: Callable[[], datetime]) -> Iterator[Check]:
    try:
        client: Any = make_client(connections=1, allow_http=settings.allow_http)
    except AhiCatalogError as error:
        yield fix("region", str(error))
        return
    yield account.check_region(client)
    replies = service.ask_everything(client, settings.datastore_id, clock)
    datastore, search, get = replies
    yield service.check_clock([*replies])
    yield service.check_datastore(datastore)
    yield service.check_search(search)
    yield service.check_get(get)
    yield account.check_quota(
        None if aws.has_custom_endpoint(client) else aws.make_client("service-quotas", read_timeout=10), settings.quota
    )


def _storage(settings: Settings, load_key: LoadKey) -> Iterator[Check]:
    try:
        store = open_store(settings.catalog, settings.s3)
    except AhiCatalogError as error:
        yield fix("storage", str(error))
        return
    bucket = storage.check_bucket(store)
    yield bucket
    if bucket.verdict is not Verdict.OK:
        return
    yield storage.check_catalog(store)
    yield from _phi_key(store, settings, load_key)
    writes = storage.check_conditional_writes(store)
    yield writes
    if store.url.startswith("s3://"):
        yield _encryption(store, settings)


def _phi_key(store: Store, settings: Settings, load_key: LoadKey) -> Iterator[Check]:
    try:
        catalog = open_catalog(store)
    except AhiCatalogError:
        return  # the check of the catalog has told
    if catalog.description.phi.policy is not Policy.PSEUDONYMIZE:
        return
    try:
        make_protection(catalog.description.phi, settings, load_key)
    except AhiCatalogError as error:
        yield fix("PHI key", str(error))
    else:
        yield ok("PHI key", "the one that the catalog was made with")


def _encryption(store: Store, settings: Settings) -> Check:
    client = s3.make_client(connections=1, read_timeout=10, allow_http=settings.allow_http)
    bucket, _, prefix = store.url.removeprefix("s3://").partition("/")
    key = f"{prefix}/{storage.PROBE_KEY}" if prefix else storage.PROBE_KEY
    return storage.check_encryption(client, bucket, key, is_aws=not aws.has_custom_endpoint(client))
