"""The leader: commits jobs to hosts, and tells of the whole cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import define, field, frozen
from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from flynnhost.background import shielded
from flynnhost.cluster.state import ClusterState, Placed
from flynnhost.errors import FlynnHostError, InvalidField, NotReady, TookTooLong
from flynnhost.feed import Feed
from flynnhost.interfaces import HostFeed, ICluster, IHostLink
from flynnhost.model import Host, HostEvent, HostEventKind, Job, JobStatus, Placement

ACKNOWLEDGE_WITHIN = 30.0
"""Seconds a host has to put its part of a batch on disk."""


@frozen
class _Answer:
    """What a host said of its part of a batch."""

    placed: Sequence[Placed]
    placements: Sequence[Placement] = ()
    error: FlynnHostError | None = None
    late: bool = False


@implementer(ICluster)
@define(eq=False)
class Leader(Service):
    """The ``ICluster`` of one term, from the election to the end of the leadership.

    :param host_id: the host that leads.
    :param addr: where its HTTP API is reached, as ``HOST:PORT``.
    :param now: tells the time of day.
    """

    _clock: IReactorTime
    _now: Callable[[], datetime]
    term: int
    _host_id: str
    _addr: str
    events: HostFeed = field(init=False)
    _feed: Feed[HostEvent] = field(init=False)
    _since: datetime = field(init=False)
    _state: ClusterState = field(init=False, factory=ClusterState)
    _links: dict[str, IHostLink] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self.events = self._feed = Feed(f"t{self.term}")
        self._since = self._now()

    # --- hosts ---------------------------------------------------------------

    def add_host(self, host: Host, link: IHostLink) -> None:
        """Take in a host with the jobs it has.

        :param link: the way to hand it jobs.
        """
        known = self._state.has_host(host.id)
        self._state.add_host(host)
        self._links[host.id] = link
        if not known:
            self._feed.publish(host.id, HostEvent(HostEventKind.ADD, host.id))

    def remove_host(self, host_id: str) -> None:
        """Take a host out, with its jobs."""
        del self._links[host_id]
        self._state.remove_host(host_id)
        self._feed.publish(host_id, HostEvent(HostEventKind.REMOVE, host_id))

    def job_reported(self, host_id: str, job: Job) -> None:
        """Take note of a job that a host has, whoever sent it there."""
        self._state.report(host_id, job)

    def job_ended(self, host_id: str, job_id: str) -> None:
        """Take a job out of the state."""
        self._state.remove_job(host_id, job_id)

    # --- ICluster ------------------------------------------------------------

    def hosts(self) -> Sequence[Host]:
        """See ``ICluster``."""
        return self._state.hosts()

    def complete(self) -> bool:
        """See ``ICluster``."""
        return bool(self._links)

    def leader(self) -> Mapping[str, Any]:
        """See ``ICluster``."""
        return {"id": self._host_id, "addr": self._addr, "term": self.term, "since": self._since}

    def submit(self, batch: Mapping[str, Sequence[Job]]) -> Deferred[list[Placement]]:
        """See ``ICluster``. Goes on to the end, whether the caller waits or not."""
        return shielded(Deferred.fromCoroutine(self._submit(batch)))

    async def _submit(self, batch: Mapping[str, Sequence[Job]]) -> list[Placement]:
        if not self.running:
            raise NotReady("this host is giving up the leadership")
        by_host: dict[str, list[Placed]] = {}
        for placed in self._state.begin(batch):
            by_host.setdefault(placed.host_id, []).append(placed)
        asked = [self._ask(host_id, jobs) for host_id, jobs in by_host.items()]
        answers = [await answer for answer in asked]
        _raise_for(answers)
        return [placement for answer in answers for placement in answer.placements]

    def _ask(self, host_id: str, jobs: Sequence[Placed]) -> Deferred[_Answer]:
        """Hand a host its part. Fires within the deadline, and never fails."""
        acknowledged = Deferred.fromCoroutine(self._hand_over(host_id, jobs))
        # A late acknowledgement is committed all the same: the deadline ends the wait alone.
        answer = shielded(acknowledged).addTimeout(ACKNOWLEDGE_WITHIN, self._clock)
        return answer.addErrback(_too_late, jobs)

    async def _hand_over(self, host_id: str, jobs: Sequence[Placed]) -> _Answer:
        try:
            statuses = await self._links[host_id].submit([placed.job for placed in jobs], self.term)
        except Exception as e:
            for placed in jobs:
                self._state.abandon(placed)
            if not isinstance(e, FlynnHostError):
                raise
            return _Answer(jobs, error=_as_of_host(host_id, e))
        for placed, status in zip(jobs, statuses, strict=True):
            if status.ended:
                self._state.abandon(placed)
            else:
                self._state.commit(placed)
        return _Answer(jobs, [_placement(p, status) for p, status in zip(jobs, statuses, strict=True)])


def _placement(placed: Placed, status: JobStatus) -> Placement:
    return Placement(placed.job.id, placed.host_id, status)


def _as_of_host(host_id: str, error: FlynnHostError) -> FlynnHostError:
    if isinstance(error, InvalidField):
        return InvalidField(f"{host_id}{error.field}", error.reason)
    return error


def _too_late(failure: Failure, jobs: Sequence[Placed]) -> _Answer:
    failure.trap(defer.TimeoutError)
    return _Answer(jobs, late=True)


def _raise_for(answers: Sequence[_Answer]) -> None:
    """Tell what became of a batch that not every host has acknowledged."""
    for answer in answers:
        if answer.error is not None:
            raise answer.error
    if any(answer.late for answer in answers):
        outcomes = [
            (placed.job.id, "unknown" if answer.late else "accepted")
            for answer in answers
            for placed in answer.placed
        ]
        raise TookTooLong(f"not every host has acknowledged within {ACKNOWLEDGE_WITHIN:g} s", outcomes)
