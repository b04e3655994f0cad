"""Ends and removes what an earlier instance of this host booted."""

from __future__ import annotations

from attrs import define
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost.agent.spec import host_labels
from flynnhost.agent.table import JobTable
from flynnhost.background import Backoff
from flynnhost.errors import EngineRefused, EngineUnavailable
from flynnhost.interfaces import IContainers
from flynnhost.model import JobStatus

REASON = "ended by --force"


@define(eq=False)
class Clearing:
    """What ``--force`` does: this host's containers go, found by label; never another's."""

    log = Logger()

    _clock: IReactorTime
    _host_id: str
    _table: JobTable
    _containers: IContainers

    async def clear(self) -> None:
        """End everything. Tries until the engine has done it."""
        backoff = Backoff(self._clock)
        while True:
            try:
                await self._remove_all()
                break
            except (EngineUnavailable, EngineRefused) as e:
                self.log.warn("--force can't end the containers yet: {reason}", reason=str(e))
                await backoff.wait()
        for job in list(self._table.jobs.values()):
            if job.status is JobStatus.STARTING and not job.container_id:
                await self._table.fail(job.id, REASON)
            elif not job.ended:
                await self._table.lose(job.id, REASON)

    async def _remove_all(self) -> None:
        for container in await self._containers.list_containers(host_labels(self._host_id)):
            self.log.info("--force removes {container}", container=container.name)
            await self._containers.remove(container.id)
