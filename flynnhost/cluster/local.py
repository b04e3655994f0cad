"""The leader's own host, in the same process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred

from flynnhost.cluster.leader import Leader
from flynnhost.interfaces import IAgent, IPrepared, ISubscription, Part
from flynnhost.model import ActiveJob, EventKind, Host, Job, JobEvent, JobStatus


def _no_objection(jobs: Sequence[Job], term: int) -> None:
    """What can't be is refused when the jobs are handed over."""


@define(eq=False)
class _Looked:
    """A part that this host could take."""

    _local: LocalHost
    _part: Part
    _term: int

    def submit(self) -> Deferred[list[JobStatus]]:
        return self._local.submit(self._part, self._term)

    def drop(self) -> None:
        """Nothing was kept."""


@define(eq=False)
class LocalHost(Service):
    """Joins the agent of this process to a leader for as long as it leads.

    :param agent: an agent that has read its journal.
    :param foresee: raises what the agent would refuse jobs with, as far as that can be foreseen.
    """

    _agent: IAgent
    _leader: Leader
    _foresee: Callable[[Sequence[Job], int], None] = _no_objection
    _subscription: ISubscription | None = field(init=False, default=None)

    def startService(self) -> None:
        """Report this host with its active jobs, and from now on what ends."""
        super().startService()
        active = tuple(job.job for job in self._agent.jobs().values() if not job.ended)
        host = Host(id=self._agent.host_id, attributes=self._agent.attributes, jobs=active)
        self._leader.add_host(host, self)
        self._subscription = self._agent.events.subscribe(self._happened)

    def stopService(self) -> None:
        """Report no more."""
        super().stopService()
        if self._subscription is not None:
            self._subscription.cancel()
            self._subscription = None

    def submit(self, part: Part, term: int) -> Deferred[list[JobStatus]]:
        """See ``IHostLink``."""

        def statuses(accepted: list[ActiveJob]) -> list[JobStatus]:
            return [job.status for job in accepted]

        return self._agent.accept(part.jobs, term).addCallback(statuses)

    def prepare(self, part: Part, term: int) -> Deferred[IPrepared]:
        """See ``IHostLink``."""

        def look() -> IPrepared:
            self._foresee(part.jobs, term)
            return _Looked(self, part, term)

        return maybeDeferred(look)

    def _happened(self, event_id: str, event: JobEvent) -> None:
        if event.job.ended:
            self._leader.job_ended(event.job.host_id, event.job.id)
        # Also of a job that was put on this host directly, past the leader.
        elif event.kind is EventKind.CREATE:
            self._leader.job_reported(event.job.host_id, event.job.job)
