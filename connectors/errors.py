"""What can go wrong, by what the caller can do about it.

::

    AhiCatalogError                one line: what is wrong and what to do; never a row, a token, a credential
    ├── UsageError                 the request, or what it finds on the machine (credentials), is wrong (exit 2)
    │   └── QueryError             a query is: no valid SQL, or it names what there is not; and where in it
    ├── SourceError                HealthImaging refuses or cannot be read
    │   ├── TransientError         may pass; it is retried before it is raised
    │   │   ├── ThrottledError     beyond the quota
    │   │   └── NotReadyError      what is asked for was just made, and is not consistent yet
    │   └── InvalidRequestError    refused as invalid: a rejected page token, or a filter it does not know
    ├── QueueError                 the queue of events refuses or cannot be reached; the search tells without it
    ├── StoreError                 the catalog's storage refuses or cannot be reached
    │   ├── RefusedError           credentials, rights or a bucket that is not there: trying again does not help
    │   └── ConflictError          someone else wrote the object first; read again and retry
    ├── StateError                 catalog.json, a checkpoint or a data object is not what this version reads
    │   └── DamagedError           it is no such thing at all; a verify with `repair` mends it
    ├── ClusterError               the Dask cluster that scans is lost, or cannot do so
    ├── StoppedError               the run was asked to stop
    └── UnexpectedError            a mistake of ours or of a library; told without its text, which may quote data

A message names settings by their names in backquotes (`kms_key`), and what would help by a `Remedy`. A notebook and
Prefect show both as they are; the command line puts its own options and commands in their place (cli/wording.py).
"""

from enum import StrEnum


class Remedy(StrEnum):
    """What would help, in words that fit wherever the error is read."""

    SYNC = "sync it first"
    REPAIR = "verify it with `repair`"
    REPAIR_METADATA = "verify it and its metadata with `repair`"
    RESTART_VERIFY = "verify it with `restart`"
    POLICY = "allow what the smallest IAM policy lists"
    NO_PREFECT = "or run without Prefect"
    RESUME = "the next run resumes"


class AhiCatalogError(Exception):
    """Root of every error that is meant for the user.

    Args:
        message: One line: what is wrong, and what to do unless the remedy says it.
        remedy: What would help; None: the message says it.
    """

    def __init__(self, message: str, *, remedy: Remedy | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return self.message if self.remedy is None else f"{self.message}; {self.remedy}"

    @property
    def while_retrying(self) -> str:
        """The same, where what failed is tried again by itself."""
        return self.message if self.remedy is Remedy.RESUME else str(self)


class UsageError(AhiCatalogError):
    """The command, its settings, or the credentials and the configuration that boto3 finds are wrong."""


def missing_extra(what: str, extra: str) -> UsageError:
    """The error where packages are not installed that come with an extra.

    Args:
        what: Needs them.
        extra: Its name, or several with commas.
    """
    return UsageError(f"{what} takes an extra that is not installed: pip install 'ahi-catalog[{extra}]'")


class QueryError(UsageError):
    """A query is no valid SQL, or names what there is not.

    Args:
        message: As of every error; the query's text is not in it.
        place: Of the character in the query where it was noticed, from 0; None: nobody knows.
    """

    def __init__(self, message: str, place: int | None) -> None:
        super().__init__(message)
        self.place = place


class SourceError(AhiCatalogError):
    """HealthImaging refuses the request, or cannot be read."""


class TransientError(SourceError):
    """A failure that may pass: a dropped connection, half a body, an internal error of the service."""


class ThrottledError(TransientError):
    """The service answered that requests come faster than the account's quota."""


class NotReadyError(TransientError):
    """The service answered that what is asked for is not consistent yet."""


class InvalidRequestError(SourceError):
    """The service refuses the request as invalid."""


class QueueError(AhiCatalogError):
    """The queue of events refuses, or cannot be reached; what it would tell, the service's search tells later."""


class StoreError(AhiCatalogError):
    """The catalog's storage refuses the operation, or cannot be reached."""


class RefusedError(StoreError):
    """The store refuses, and will go on to: credentials, rights, a bucket that is not there."""


class ConflictError(StoreError):
    """The object is not the one that the conditional write expected."""


class StateError(AhiCatalogError):
    """A file of the catalog is damaged, or of a form that this version does not read."""


class DamagedError(StateError):
    """A checkpoint or a data object is no such thing at all, or another catalog's; it can be made anew."""


class ClusterError(AhiCatalogError):
    """The Dask cluster that scans is lost, or cannot do so."""


class UnexpectedError(AhiCatalogError):
    """A mistake of this program or of a library under it, told by its type and place only."""


class StoppedError(AhiCatalogError):
    """The run was asked to stop (SIGTERM or Ctrl-C)."""
