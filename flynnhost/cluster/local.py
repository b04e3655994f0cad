"""The leader's own host, in the same process."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from flynnhost.background import Background
from flynnhost.canonical import parse_canonical
from flynnhost.cluster.leader import Leader
from flynnhost.encoded import EncodedJobs
from flynnhost.errors import FlynnHostError
from flynnhost.interfaces import IAgent, IPrepared, ISubscription, Part
from flynnhost.messages import MAX_PAST
from flynnhost.model import ActiveJob, EventKind, Host, Job, JobEvent, JobStatus


class IOnTheWay(Protocol):
    """Jobs that leaders have sent, and of which it is not known yet whether this host has them.

    :ivar settled: called with the ID of each job of which it is known now.
    """

    settled: Callable[[str], None] | None

    def items(self) -> Iterator[tuple[str, bytes]]:
        """All of them by ID, with their canonical forms."""


@define
class _Nothing:
    settled: Callable[[str], None] | None = None

    def items(self) -> Iterator[tuple[str, bytes]]:
        return iter(())


Take = Callable[[Sequence[Job], Mapping[str, bytes], int], Coroutine[Deferred[Any], Any, list[ActiveJob]]]
"""Takes jobs, whose canonical forms are given by ID, of a leader of that term. Returns them when they
are on disk, and fails when it is certain that they are not."""


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
    :param on_the_way: what leaders have sent to this host, this one too.
    :param take: has the agent take jobs, which are on the way meanwhile; without it the agent is
        asked itself.
    """

    log = Logger()

    _agent: IAgent
    _leader: Leader
    _foresee: Callable[[Sequence[Job], int], None] = _no_objection
    _on_the_way: IOnTheWay = field(factory=_Nothing)
    _take: Take | None = None
    _early: set[str] = field(init=False, factory=set)
    _subscriptions: list[ISubscription] = field(init=False, factory=list)
    _background: Background = field(init=False, factory=lambda: Background("the leader's own host"))

    def startService(self) -> None:
        """Report this host with its active jobs, and from now on what ends."""
        super().startService()
        # What earlier leaders send is refused at once; after a restart too, when this is on disk.
        self._background.run(self._remember(self._leader.term), "remembering the term")
        jobs = self._agent.jobs()
        active = [job.job for job in jobs.values() if not job.ended]
        early = [(job_id, encoded) for job_id, encoded in self._on_the_way.items() if job_id not in jobs]
        self._early = {job_id for job_id, _ in early}
        self._on_the_way.settled = self._settled
        active += [parse_canonical(encoded) for _, encoded in early]
        host = Host(
            id=self._agent.host_id,
            attributes=self._agent.attributes,
            jobs=active,
            draining=self._agent.draining,
            resources=self._agent.resources,
            addr=self._leader.addr,
        )
        self._leader.add_host(host, self, self._agent.latest_ended(MAX_PAST))
        self._subscriptions = [
            self._agent.events.subscribe(self._happened),
            self._agent.watch_draining(partial(self._leader.host_draining, self._agent.host_id)),
            self._agent.watch_attributes(partial(self._leader.host_attributes, self._agent.host_id)),
        ]

    def stopService(self) -> Deferred[None]:
        """Report no more. Fires when nothing goes on."""
        super().stopService()
        if self._on_the_way.settled == self._settled:
            self._on_the_way.settled = None
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            subscription.cancel()
        return self._background.cancel()

    async def _remember(self, term: int) -> None:
        try:
            await self._agent.accept([], term)
        except FlynnHostError as e:
            self.log.warn("The term {term} is not on disk yet: {reason}", term=term, reason=str(e))

    def submit(self, part: Part, term: int) -> Deferred[list[JobStatus]]:
        """See ``IHostLink``."""
        return Deferred.fromCoroutine(self._submit(part.jobs, term))

    async def _submit(self, jobs: EncodedJobs, term: int) -> list[JobStatus]:
        if self._take is None:
            accepted = await self._agent.accept(jobs, term)
        else:
            encoded = dict(zip(jobs.ids(), jobs.encoded(), strict=True))
            accepted = await self._take(jobs, encoded, term)
        return [job.status for job in accepted]

    def prepare(self, part: Part, term: int) -> Deferred[IPrepared]:
        """See ``IHostLink``."""

        def look() -> IPrepared:
            self._foresee(part.jobs, term)
            return _Looked(self, part, term)

        return maybeDeferred(look)

    def set_draining(self, draining: bool, term: int) -> Deferred[None]:
        """See ``IHostLink``."""
        return self._agent.set_draining(draining, term)

    def _settled(self, job_id: str) -> None:
        """A job that was reported before this host had it was taken, or was not."""
        if job_id not in self._early:
            return
        self._early.discard(job_id)
        job = self._agent.jobs().get(job_id)
        if job is None:
            self._leader.job_ended(self._agent.host_id, job_id, was_there=False)

    def _happened(self, event_id: str, event: JobEvent) -> None:
        if event.job.ended:
            self._leader.job_ended(event.job.host_id, event.job.id)
        # Also of a job that was put on this host directly, past the leader.
        elif event.kind is EventKind.CREATE:
            self._leader.job_reported(event.job.host_id, event.job.job)
