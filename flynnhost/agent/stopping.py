"""Ends jobs: TERM, a grace, KILL, until they have ended."""

from __future__ import annotations

import signal
from typing import Protocol

from attrs import define, field
from twisted.internet import defer
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost.agent.engine import EngineHealth
from flynnhost.agent.runner import Runner
from flynnhost.agent.table import JobTable
from flynnhost.background import Background, Backoff
from flynnhost.errors import (
    ContainerNotRunning,
    EngineRefused,
    EngineUnavailable,
    JobNotRunning,
    NoSuchContainer,
)
from flynnhost.interfaces import IContainers
from flynnhost.model import ActiveJob, JobStatus, Phase

GRACE = 10.0
"""Seconds between TERM and KILL for a job that says nothing of its own."""

KILL_PATIENCE = 10.0
"""Seconds that a killed job may take to end before the one who asked is told that it lasts."""


class Look(Protocol):
    """Has the truth about a job found out."""

    def __call__(self, job_id: str) -> None:
        """Look at the job's container soon."""


@define(eq=False)
class Stopper:
    """Ends jobs. What was begun goes on until the job has ended, over restarts too.

    :param look: called when the end of a job may have been missed.
    """

    log = Logger()

    _clock: IReactorTime
    _table: JobTable
    _containers: IContainers
    _engine: EngineHealth
    _runner: Runner
    _background: Background
    _look: Look
    _stopping: set[str] = field(init=False, factory=set)

    async def stop(self, job_id: str) -> ActiveJob:
        """See ``IAgent.stop_job``."""
        job = self._table.get(job_id)
        if job.ended:
            raise JobNotRunning(job_id, job.phase.value)
        if not job.force_stop:
            await self._table.note_durably(job_id, force_stop=True)
        self.begin(job_id)
        return await self._table.ended(job_id)

    def patience(self, job_id: str) -> float:
        """Seconds within which a job that is stopped should have ended."""
        job = self._table.jobs.get(job_id)
        return (GRACE if job is None else _grace(job)) + KILL_PATIENCE

    async def signal(self, job_id: str, number: int) -> None:
        """See ``IAgent.signal_job``."""
        job = self._table.get(job_id)
        if job.status is not JobStatus.RUNNING:
            raise JobNotRunning(job_id, job.phase.value)
        try:
            await self._containers.kill(job.container_id, number)
        except (NoSuchContainer, ContainerNotRunning) as e:
            self._look(job_id)
            raise JobNotRunning(job_id, "about to end") from e

    def begin(self, job_id: str) -> None:
        """Begin to end a job whose ``force_stop`` is set, unless that is going on."""
        if job_id not in self._stopping and not self._table.get(job_id).ended:
            self._stopping.add(job_id)
            self._runner.stop_early(job_id)
            self._background.run(self._stop(job_id), f"stopping job {job_id}")

    async def _stop(self, job_id: str) -> None:
        try:
            job = await self._table.started(job_id)
            self._table.note(job_id, phase=Phase.STOPPING)
            if not await self._signalled(job, signal.SIGTERM, _grace(job)):
                self.log.info("Job {job_id} did not end on TERM", job_id=job_id)
                while not await self._signalled(job, signal.SIGKILL, KILL_PATIENCE):
                    self.log.warn("Job {job_id} did not end on KILL", job_id=job_id)
        finally:
            self._stopping.discard(job_id)

    async def _signalled(self, job: ActiveJob, number: int, patience: float) -> bool:
        """Send a signal. Says whether the job ended in time."""
        backoff = Backoff(self._clock)
        while not self._table.get(job.id).ended:
            try:
                await self._containers.kill(job.container_id, number)
                break
            except (NoSuchContainer, ContainerNotRunning):
                self._look(job.id)
                break
            except (EngineUnavailable, EngineRefused) as e:
                self.log.warn("Job {job_id} can't be stopped yet: {reason}", job_id=job.id, reason=str(e))
                await backoff.wait()
                await self._engine.back()
        try:
            await self._table.ended(job.id).addTimeout(patience, self._clock)
        except defer.TimeoutError:
            self._look(job.id)  # its end may have been missed
            return False
        return True


def _grace(job: ActiveJob) -> float:
    own = job.job.config.stop_timeout
    return GRACE if own is None else own
