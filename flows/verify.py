"""The verify flows: what is covered, read again and compared with the catalog."""

from datetime import datetime
from functools import partial

from prefect import State, flow

from connectors.settings import Settings
from flows import verification
from flows.orchestration import run_in_flow, run_many_in_flow


@flow(name="verify", persist_result=False)
def verify(
    settings: Settings,
    start: datetime | None = None,
    end: datetime | None = None,
    part: str | None = None,
    *,
    repair: bool = False,
    restart: bool = False,
) -> State[None]:
    """Compare a catalog with its data store; fails where they differ.

    Args:
        settings: What to read and where it was written.
        start: Aware; the start of a range of createdAt. None: from the beginning.
        end: Aware; its end. None: to the end of what is covered.
        part: ``3/30`` for the third of thirty parts of the catalog, ``today/30`` for another one each day.
        repair: Mend what is found.
        restart: Begin anew where an earlier verification was interrupted.
    """
    request = verification.Request(start=start, end=end, part=part, is_repairing=repair, is_restart=restart)
    return run_in_flow(partial(verification.verify, settings, request), settings)


@flow(name="verify-many", persist_result=False)
def verify_many(
    settings: Settings,
    start: datetime | None = None,
    end: datetime | None = None,
    part: str | None = None,
    datastore_ids: list[str] | None = None,
    *,
    repair: bool = False,
    restart: bool = False,
) -> State[None]:
    """Compare a catalog with several data stores, side by side under one quota; fails where one differs.

    Args:
        settings: Of each; its own data store id, 32 zeros, counts for nothing.
        start: Aware; the start of a range of createdAt. None: from the beginning.
        end: Aware; its end. None: to the end of what is covered.
        part: ``3/30`` for the third of thirty parts of the catalog, ``today/30`` for another one each day.
        datastore_ids: The data stores. None: all active ones of the account and region.
        repair: Mend what is found.
        restart: Begin anew where an earlier verification was interrupted.
    """
    request = verification.Request(start=start, end=end, part=part, is_repairing=repair, is_restart=restart)
    return run_many_in_flow(partial(verification.verify, request=request), settings, datastore_ids)
