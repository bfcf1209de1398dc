"""A catalog of PyIceberg's own configuration, opened; what goes wrong with it in words of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import botocore.exceptions as boto
from pyiceberg.catalog import Catalog as IcebergCatalog
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import (
    AuthorizationExpiredError,
    ForbiddenError,
    NoSuchPropertyException,
    NotInstalledError,
    OAuthError,
    RESTError,
    UnauthorizedError,
)
from pyiceberg.utils.config import Config
from sqlalchemy.exc import SQLAlchemyError

from ahi_catalog.connectors import aws
from ahi_catalog.connectors.aws_failures import UNANSWERED, error_code
from ahi_catalog.connectors.errors import AhiCatalogError, StateError, StoreError, UsageError
from ahi_catalog.connectors.iceberg.files import Stores, TableFiles, opening
from ahi_catalog.connectors.settings import S3Access

_FILES: Final = {"py-io-impl": f"{TableFiles.__module__}.{TableFiles.__name__}"}
_REFUSED: Final = (UnauthorizedError, ForbiddenError, OAuthError, AuthorizationExpiredError)


@contextmanager
def open_iceberg(name: str, access: S3Access) -> Iterator[IcebergCatalog]:
    """A catalog that PyIceberg is configured with, whose files are read and written as those of the catalog are.

    Args:
        name: In `.pyiceberg.yaml`, or in variables that begin with ``PYICEBERG_CATALOG__NAME__``.
        access: Whose buckets its tables must lie in, and how their files are encrypted.

    Raises:
        UsageError: PyIceberg does not know it.
        AhiCatalogError: It refuses, or cannot be reached, here or inside.
    """
    try:
        with opening(Stores(access)):
            yield _load(name)
    except AhiCatalogError:
        raise
    except _REFUSED as error:
        raise AhiCatalogError(f"the Iceberg catalog {name} refuses access ({type(error).__name__}): {_CHECK}") from None
    except boto.ClientError as error:
        raise AhiCatalogError(f"the Iceberg catalog {name} refuses with {error_code(error)}: {_CHECK}") from None
    except FileNotFoundError:
        raise StateError(
            f"a file that an Iceberg table of {name} names is missing: drop the table to have it made anew"
        ) from None
    except (RESTError, SQLAlchemyError, *UNANSWERED, OSError) as error:
        raise StoreError(f"the Iceberg catalog {name} fails with {type(error).__name__}: {_CHECK}") from None


def find_settings(name: str) -> dict[str, str]:
    """What PyIceberg's configuration says of a catalog; nothing is opened.

    Raises:
        UsageError: It does not know it.
    """
    found = Config().get_catalog_config(name)
    if found is None:
        raise UsageError(_unknown(name))
    return {key: str(value) for key, value in found.items()}


_CHECK: Final = "check its settings in PyIceberg's configuration, its rights and the network; run again to go on"


def _load(name: str) -> IcebergCatalog:
    given = dict(_FILES)
    if (session := aws.chosen_session()) is not None and (credentials := session.get_credentials()) is not None:
        # Those of a block hold for Glue and for signed REST too.
        frozen = credentials.get_frozen_credentials()
        chosen = (frozen.access_key, frozen.secret_key, frozen.token, session.region_name)
        names = ("access-key-id", "secret-access-key", "session-token", "region")
        given |= {f"client.{key}": value for key, value in zip(names, chosen, strict=True) if value}
    try:
        return load_catalog(name, **given)
    except (ValueError, NoSuchPropertyException):
        raise UsageError(_unknown(name)) from None
    except (ImportError, NotInstalledError) as error:
        raise UsageError(f"the Iceberg catalog {name} needs a package that is not installed: {error}") from None


def _unknown(name: str) -> str:
    return (
        f"PyIceberg has no usable settings of a catalog {name}: put them into .pyiceberg.yaml, or into variables as "
        f"PYICEBERG_CATALOG__{name.upper()}__TYPE"
    )
