"""What jobs wrote to stdout and stderr."""

from __future__ import annotations

from attrs import define, evolve
from twisted.internet.defer import Deferred

from flynnhost.agent.table import JobTable
from flynnhost.errors import EngineRefused, NoSuchContainer, OutputGone, PositionGone
from flynnhost.interfaces import IContainers, IEntryReceiver, ILogReceiver, ILogStream, LogQuery
from flynnhost.model import ActiveJob, JobStatus


class _Nothing:
    """A stream that has ended."""

    def pauseProducing(self) -> None:
        """There is nothing to pause."""

    def resumeProducing(self) -> None:
        """There is nothing to resume."""

    def stopProducing(self) -> None:
        """There is nothing to stop."""


@define(eq=False)
class JobOutput:
    """Reads jobs' output from their containers."""

    _table: JobTable
    _containers: IContainers

    async def read(self, job_id: str, query: LogQuery, receiver: ILogReceiver) -> ILogStream:
        """See ``IAgent.job_output``."""
        job = await self._readable(job_id, query)
        if job.status is JobStatus.STARTING:
            return _nothing_yet(receiver)
        tty = job.job.config.tty
        return await self._begun(
            job, self._containers.logs(job.container_id, tty, _for(job, query), receiver)
        )

    async def read_entries(self, job_id: str, query: LogQuery, receiver: IEntryReceiver) -> ILogStream:
        """See ``IAgent.job_entries``."""
        job = await self._readable(job_id, query)
        if job.status is JobStatus.STARTING:
            return _nothing_yet(receiver)
        tty = job.job.config.tty
        return await self._begun(
            job, self._containers.log_entries(job.container_id, tty, _for(job, query), receiver)
        )

    async def _readable(self, job_id: str, query: LogQuery) -> ActiveJob:
        job = self._table.get(job_id)
        if job.job.config.disable_log:
            raise OutputGone(job_id, "it was started with disable_log, so nothing was kept")
        if query.follow:
            job = await self._table.started(job_id)
        if job.status is JobStatus.FAILED:
            raise OutputGone(job_id, f"it never started: {job.error}")
        return job

    async def _begun(self, job: ActiveJob, stream: Deferred[ILogStream]) -> ILogStream:
        try:
            return await stream
        except NoSuchContainer as e:
            raise OutputGone(job.id, "its container was removed") from e
        except (EngineRefused, PositionGone) as e:
            raise OutputGone(job.id, str(e)) from e


def _nothing_yet(receiver: ILogReceiver | IEntryReceiver) -> ILogStream:
    receiver.output_ended(None)
    return _Nothing()


def _for(job: ActiveJob, query: LogQuery) -> LogQuery:
    """The same query, without waiting for more if there can't be any."""
    return evolve(query, follow=False) if job.status.ended else query
