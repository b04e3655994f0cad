"""What jobs wrote to stdout and stderr."""

from __future__ import annotations

from attrs import define

from flynnhost.agent.table import JobTable
from flynnhost.errors import EngineRefused, NoSuchContainer, OutputGone
from flynnhost.interfaces import IContainers, ILogReceiver, ILogStream, LogQuery
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
        job = self._table.get(job_id)
        if job.job.config.disable_log:
            raise OutputGone(job_id, "it was started with disable_log, so nothing was kept")
        if query.follow:
            job = await self._table.started(job_id)
        if job.status is JobStatus.FAILED:
            raise OutputGone(job_id, f"it never started: {job.error}")
        if job.status is JobStatus.STARTING:
            receiver.output_ended(None)  # it has not written anything yet
            return _Nothing()
        return await self._of_container(job, query, receiver)

    async def _of_container(self, job: ActiveJob, query: LogQuery, receiver: ILogReceiver) -> ILogStream:
        try:
            return await self._containers.logs(job.container_id, job.job.config.tty, query, receiver)
        except NoSuchContainer as e:
            raise OutputGone(job.id, "its container was removed") from e
        except EngineRefused as e:
            raise OutputGone(job.id, str(e)) from e
