"""Takes in jobs: all of a batch or none, on disk before anyone is told, each ID once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, field
from twisted.internet.defer import Deferred

from flynnhost.agent.ports import PortLeases
from flynnhost.agent.spec import check_supported
from flynnhost.agent.table import JobTable
from flynnhost.canonical import digest
from flynnhost.errors import InvalidField, JobConflict, JournalFailed, StaleTerm
from flynnhost.interfaces import IJournal
from flynnhost.model import ActiveJob, Job


@define(eq=False)
class _Writing:
    """A job on its way to the disk, and those who wait for it besides the one who sent it."""

    job: ActiveJob
    waiters: list[Deferred[None]] = field(factory=list)

    def over(self) -> Deferred[None]:
        """Fires when the job is in the table, or could not be written."""
        waiter: Deferred[None] = Deferred(self.waiters.remove)
        self.waiters.append(waiter)
        return waiter


@define(eq=False)
class Intake:
    """The only way for a job into the table while the host runs.

    :param run: called with the ID of each job that was accepted.
    :ivar highest_term: the highest leader's term that this host has seen.
    """

    _host_id: str
    _table: JobTable
    _journal: IJournal
    _ports: PortLeases
    _run: Callable[[str], None]
    highest_term: int = field(init=False, default=0)
    _writing: dict[str, _Writing] = field(init=False, factory=dict)

    async def accept(self, jobs: Sequence[Job], term: int) -> list[ActiveJob]:
        """See ``IAgent.accept``. Not to be cancelled."""
        if term and term < self.highest_term:
            raise StaleTerm(term, self.highest_term)
        new: dict[str, ActiveJob] = {}
        for index, job in enumerate(jobs):
            active = self._as_active(job, index, term)
            known = self._known(job.id) or new.setdefault(job.id, active)
            if known.digest != active.digest:
                raise JobConflict(job.id, "is known already, with other content")
        if new or term > self.highest_term:
            self.highest_term = max(self.highest_term, term)
            await self._write(list(new.values()), term)
        for job_id in new:
            self._run(job_id)
        return [await self._settled(job.id) for job in jobs]

    async def adopt(self, job: ActiveJob) -> bool:
        """Take a job that has a container already. Says False if it is known after all."""
        if self._known(job.id):
            return False
        await self._write([job], 0)
        self._ports.keep(job.id, job.host_ports)
        return True

    def _known(self, job_id: str) -> ActiveJob | None:
        if job_id in self._writing:
            return self._writing[job_id].job
        return self._table.jobs.get(job_id)

    def _as_active(self, job: Job, index: int, term: int) -> ActiveJob:
        try:
            check_supported(job)
        except InvalidField as e:
            raise e.under(f"[{index}]") from None
        now = self._table.now()
        return ActiveJob(job=job, host_id=self._host_id, digest=digest(job), accepted_at=now, term=term)

    async def _settled(self, job_id: str) -> ActiveJob:
        """A job that this or another batch brought, when it is on disk."""
        if job_id in self._writing:
            await self._writing[job_id].over()
        if job_id not in self._table.jobs:
            raise JournalFailed(f"job {job_id}, sent twice at the same time, could not be written")
        return self._table.get(job_id)

    async def _write(self, jobs: Sequence[ActiveJob], term: int) -> None:
        self._writing.update((job.id, _Writing(job)) for job in jobs)
        try:
            await self._journal.write(jobs, term)
            self._table.add(jobs)
        finally:
            for job in jobs:
                for waiter in self._writing.pop(job.id).waiters:
                    waiter.callback(None)
