"""Serving deployments from one process, which ends its runs in order when it is asked to stop."""

import asyncio
import signal
from collections.abc import Iterable
from typing import Any

from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner


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
