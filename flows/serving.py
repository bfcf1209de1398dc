"""Serving deployments from one process, which ends its runs in order when it is asked to stop."""

import asyncio
import signal
from collections.abc import Iterable, Sequence
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import DeploymentStatus
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound
from prefect.runner import Runner

from ahi_catalog.connectors.errors import AhiCatalogError, UsageError


class _Server(Runner):
    """Prefect's runner, but SIGTERM and Ctrl-C cancel its runs, rather than kill them and leave them "running".

    Prefect's own handler calls `stop` where the event loop runs, which then awaits nothing.
    """

    def handle_sigterm(self, number: int = signal.SIGTERM, *_: Any, **__: Any) -> None:
        if self.stopping and number != signal.SIGINT:
            return
        if self.stopping or not self.started:
            raise KeyboardInterrupt
        self.stopping = True
        asyncio.run_coroutine_threadsafe(self.astop(), asyncio.get_running_loop())


def refuse_to_take_over(deployments: Sequence[RunnerDeployment]) -> None:
    """Refuse names under which the server knows deployments of another catalog, or that another process serves.

    Raises:
        UsageError: There are some of another catalog or data store; registering would have their runs write into this.
        AhiCatalogError: They are being served, or were until a minute ago; who ends first pauses the schedules of both.
    """
    with get_client(sync_client=True) as client:
        for ours in deployments:
            name = f"{ours.flow_name}/{ours.name}"
            try:
                there = client.read_deployment_by_name(name)
            except ObjectNotFound:
                continue
            if _what(there.parameters) != _what(ours.parameters):
                catalog, ids = _what(there.parameters)
                raise UsageError(
                    f"{name} is there already, for {catalog} and data store {', '.join(ids)}: "
                    "choose another `name`, or take it over with `replace`"
                )
            # An orderly end pauses them; the server calls them ready for a minute after they were last asked for.
            if there.status is DeploymentStatus.READY and not there.paused:
                raise AhiCatalogError(
                    f"{name} is served already, or was until a minute ago: end that one, or serve beside it with "
                    "`replace`; who ends first pauses the schedules of both"
                )


def _what(parameters: dict[str, Any]) -> tuple[str, list[str]]:
    return str(parameters.get("catalog")).rstrip("/"), parameters.get("datastore_ids") or ["all"]


def serve_deployments(deployments: Iterable[RunnerDeployment]) -> None:
    """Register deployments and run what is due, until SIGTERM or Ctrl-C; a second Ctrl-C stops at once.

    At the end the schedules are paused, so that what falls due meanwhile does not pile up; serving again resumes them.
    """
    asyncio.run(_serve(deployments))


async def _serve(deployments: Iterable[RunnerDeployment]) -> None:
    runner = _Server(pause_on_shutdown=True)
    for deployment in deployments:
        await runner.aadd_deployment(deployment)
    signal.signal(signal.SIGINT, runner.handle_sigterm)
    await runner.start()
