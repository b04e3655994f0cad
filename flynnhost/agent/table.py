"""The jobs of this host: what is known of each, and the order in which it may change."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import islice
from types import MappingProxyType
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost.background import Background, Backoff
from flynnhost.errors import JournalFailed, UnknownJob
from flynnhost.feed import Feed
from flynnhost.interfaces import ContainerState, IJournal
from flynnhost.model import ActiveJob, EventKind, JobEvent, JobStatus, Phase

ENDED_KEPT = 1_000
"""Of how many jobs it is known in which order they have ended."""

LOST = -1
"""The exit status of a job whose real one was lost with its container."""


@define(eq=False)
class _Waiter:
    reached: Callable[[ActiveJob], bool]
    fires: Deferred[ActiveJob]


@define(eq=False)
class JobTable:
    """All jobs of this host by ID.

    A job only ever moves forward: no start after an end, no second end. An end is on
    disk before anyone is told of it; until then the job is shown as it was.

    :param now: tells the time of day.
    """

    log = Logger()

    _clock: IReactorTime
    now: Callable[[], datetime]
    _journal: IJournal
    _feed: Feed[JobEvent]
    _background: Background
    _jobs: dict[str, ActiveJob] = field(init=False, factory=dict)
    _ending: set[str] = field(init=False, factory=set)
    # The IDs of those that ended last, the latest first.
    _ended: deque[str] = field(init=False, factory=lambda: deque(maxlen=ENDED_KEPT))
    _waiters: dict[str, list[_Waiter]] = field(init=False, factory=dict)
    _exit_listeners: list[Callable[[ActiveJob], None]] = field(init=False, factory=list)

    @property
    def jobs(self) -> Mapping[str, ActiveJob]:
        """All jobs by ID, a view."""
        return MappingProxyType(self._jobs)

    def get(self, job_id: str) -> ActiveJob:
        """One job.

        :raises UnknownJob: when there is none of that ID.
        """
        try:
            return self._jobs[job_id]
        except KeyError:
            raise UnknownJob(job_id) from None

    def on_exit(self, listener: Callable[[ActiveJob], None]) -> None:
        """Have a listener called with each job that has ended, once that is on disk and told."""
        self._exit_listeners.append(listener)

    def restore(self, jobs: Iterable[ActiveJob]) -> None:
        """Take jobs as the journal has them, without events."""
        self._jobs.update((job.id, job) for job in jobs)
        ended = ((job.ended_at or job.accepted_at, job.id) for job in self._jobs.values() if job.ended)
        self._ended.extend(job_id for _, job_id in heapq.nlargest(ENDED_KEPT, ended))

    def latest_ended(self, limit: int) -> list[str]:
        """The IDs of the jobs that have ended last, the latest first; see ``IAgent.latest_ended``."""
        return list(islice(self._ended, limit))

    def add(self, jobs: Iterable[ActiveJob]) -> None:
        """Take new jobs, which are on disk already."""
        for job in jobs:
            self._jobs[job.id] = job
            self._publish(EventKind.CREATE, job)

    def note(self, job_id: str, **changes: Any) -> ActiveJob:
        """Change what is only of interest while the job goes on; the disk is not told."""
        job = self.get(job_id)
        if job.ended or job_id in self._ending:
            return job
        self._jobs[job_id] = job = evolve(job, **changes)
        return job

    async def note_durably(self, job_id: str, **changes: Any) -> ActiveJob:
        """Change something of a job that goes on, and return when that is on disk.

        :raises JournalFailed: when it could not be written; the change stays in memory.
        """
        job = self.note(job_id, **changes)
        await self._journal.write([job])
        return job

    def observe(self, job_id: str, state: ContainerState) -> Deferred[None]:
        """Move a job to where its container is. Fires when that is done and, for an end, on disk."""
        job = self.get(job_id)
        if job.ended or job_id in self._ending or state.started_at is None:
            return _done()
        if job.status is JobStatus.STARTING:
            self._started(job_id, state)
        if state.running:
            return _done()
        return self._background.run(
            self._end(
                job_id,
                status=JobStatus.DONE if state.exit_code == 0 and not state.oom_killed else JobStatus.CRASHED,
                exit_status=state.exit_code,
                # Docker takes the two times in different threads, and mixes them up for short jobs.
                ended_at=max(state.finished_at or self.now(), state.started_at),
                oom_killed=state.oom_killed,
                error="killed: out of memory" if state.oom_killed else "",
            ),
            f"recording the end of job {job_id}",
        )

    def fail(self, job_id: str, reason: str) -> Deferred[None]:
        """End a job that never started. Fires when that is on disk."""
        return self._finish(job_id, JobStatus.FAILED, reason, exit_status=None)

    def lose(self, job_id: str, reason: str) -> Deferred[None]:
        """End a job whose container is gone, and its exit status with it."""
        return self._finish(job_id, JobStatus.CRASHED, reason, exit_status=LOST)

    def accepted(self, job_id: str) -> Deferred[ActiveJob]:
        """Fires with the job when it is there, at once if it is."""
        return self._when(job_id, lambda _: True)

    def ended(self, job_id: str) -> Deferred[ActiveJob]:
        """Fires with the job when it has ended, at once if it has.

        :raises UnknownJob: when there is none of that ID.
        """
        self.get(job_id)
        return self._when(job_id, lambda job: job.ended)

    def started(self, job_id: str) -> Deferred[ActiveJob]:
        """Fires with the job when it runs or has ended, at once if it does.

        :raises UnknownJob: when there is none of that ID.
        """
        self.get(job_id)
        return self._when(job_id, lambda job: job.status is not JobStatus.STARTING)

    def _when(self, job_id: str, reached: Callable[[ActiveJob], bool]) -> Deferred[ActiveJob]:
        waiter = _Waiter(reached, Deferred(lambda _: self._drop_waiter(job_id, waiter)))
        job = self._jobs.get(job_id)
        if job is not None and reached(job):
            waiter.fires.callback(job)
        else:
            self._waiters.setdefault(job_id, []).append(waiter)
        return waiter.fires

    def _finish(self, job_id: str, status: JobStatus, reason: str, exit_status: int | None) -> Deferred[None]:
        job = self.get(job_id)
        if job.ended or job_id in self._ending:
            return _done()
        return self._background.run(
            self._end(job_id, status=status, error=reason, exit_status=exit_status, ended_at=self.now()),
            f"recording the end of job {job_id}",
        )

    def _started(self, job_id: str, state: ContainerState) -> None:
        job = self.note(
            job_id,
            status=JobStatus.RUNNING,
            phase=Phase.RUNNING,
            detail="",
            container_id=state.id,
            internal_ip=state.internal_ip,
            started_at=state.started_at,
        )
        self._publish(EventKind.START, job)
        # Nobody waits for this: after a crash the container says the same.
        self._background.run(self._write(job), f"recording the start of job {job_id}")

    async def _end(self, job_id: str, **changes: Any) -> None:
        ended = evolve(self._jobs[job_id], phase=Phase.ENDED, detail="", **changes)
        self._ending.add(job_id)
        try:
            await self._write_until_written(ended)
        finally:
            self._ending.discard(job_id)
        self._jobs[job_id] = ended
        self._ended.appendleft(job_id)
        self._publish(EventKind.ERROR if ended.status is JobStatus.FAILED else EventKind.STOP, ended)
        for listener in self._exit_listeners:
            listener(ended)

    async def _write(self, job: ActiveJob) -> None:
        await self._journal.write([job])

    async def _write_until_written(self, job: ActiveJob) -> None:
        backoff = Backoff(self._clock)
        while True:
            try:
                await self._journal.write([job])
            except JournalFailed as e:
                self.log.error(
                    "The end of job {job_id} waits for the disk: {reason}", job_id=job.id, reason=str(e)
                )
                await backoff.wait()
            else:
                return

    def _publish(self, kind: EventKind, job: ActiveJob) -> None:
        self._feed.publish(job.id, JobEvent(kind, job))
        for waiter in list(self._waiters.get(job.id, ())):
            if waiter.reached(job):
                self._drop_waiter(job.id, waiter)
                waiter.fires.callback(job)

    def _drop_waiter(self, job_id: str, waiter: _Waiter) -> None:
        waiters = self._waiters.get(job_id, [])
        waiters.remove(waiter)
        if not waiters:
            self._waiters.pop(job_id, None)


def _done() -> Deferred[None]:
    done: Deferred[None] = Deferred()
    done.callback(None)
    return done
