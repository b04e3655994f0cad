"""The leader: commits jobs to hosts, and tells of the whole cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import define, field, frozen
from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from flynnhost.background import shielded
from flynnhost.cluster.state import ClusterState, Hold
from flynnhost.errors import (
    FlynnHostError,
    InvalidField,
    JobConflict,
    JournalFailed,
    NotReady,
    StaleTerm,
    TookTooLong,
)
from flynnhost.feed import Feed
from flynnhost.interfaces import HostFeed, ICluster, IHostLink
from flynnhost.model import Host, HostEvent, HostEventKind, Job, JobStatus, Placement

ACKNOWLEDGE_WITHIN = 30.0
"""Seconds a host has to put its part of a batch on disk."""

MAX_UNACKNOWLEDGED = 20_000
"""Jobs that one host may have to acknowledge before it is given more."""

_REFUSALS = (InvalidField, JobConflict, StaleTerm, JournalFailed, NotReady)
"""How a host says that it has not taken the jobs. After anything else it may have them."""


@frozen
class _Answer:
    """What is known of a host's part of a batch, if not that the host has refused it.

    :param jobs: as they were asked for.
    :param statuses: where each of them is; None when the host may have them or not.
    """

    host_id: str
    jobs: Sequence[Job]
    statuses: Sequence[JobStatus] | None = None
    error: FlynnHostError | None = None

    @property
    def outcome(self) -> str:
        """What became of each job, in a word."""
        if self.error is not None:
            return "refused"
        return "unknown" if self.statuses is None else "accepted"


@implementer(ICluster)
@define(eq=False)
class Leader(Service):
    """The ``ICluster`` of one term, from the election to the end of the leadership.

    :param host_id: the host that leads.
    :param addr: where its HTTP API is reached, as ``HOST:PORT``.
    :param now: tells the time of day.
    """

    log = Logger()

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
    _unacknowledged: Counter[str] = field(init=False, factory=Counter)

    def __attrs_post_init__(self) -> None:
        self.events = self._feed = Feed(f"t{self.term}")
        self._since = self._now()

    def stopService(self) -> None:
        """Take no more batches, and tell no more events."""
        super().stopService()
        self._feed.close()

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
        """Take a host out with its jobs, if it is there."""
        if self._links.pop(host_id, None) is not None:
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
        for host_id in batch:
            if self._unacknowledged[host_id] >= MAX_UNACKNOWLEDGED:
                raise NotReady(
                    f"host {host_id} has {self._unacknowledged[host_id]} jobs to acknowledge already"
                )
        held = self._state.begin(batch)
        asked = [self._ask(host_id, batch[host_id], holds) for host_id, holds in held.items()]
        answers = [await answer for answer in asked]
        self._raise_for(answers)
        return [
            Placement(job.id, answer.host_id, status)
            for answer in answers
            for job, status in zip(answer.jobs, answer.statuses or (), strict=True)
        ]

    def _ask(self, host_id: str, jobs: Sequence[Job], holds: Sequence[Hold]) -> Deferred[_Answer]:
        """Hand a host its part. Fires within the deadline, and never fails."""
        answered = Deferred.fromCoroutine(self._hand_over(host_id, tuple(jobs), holds))
        # A late acknowledgement is committed all the same: the deadline ends the wait alone.
        answer = shielded(answered).addTimeout(ACKNOWLEDGE_WITHIN, self._clock)

        def late(failure: Failure) -> _Answer:
            failure.trap(defer.TimeoutError)
            return _Answer(host_id, jobs)

        return answer.addErrback(late)

    async def _hand_over(self, host_id: str, jobs: Sequence[Job], holds: Sequence[Hold]) -> _Answer:
        """Nobody cancels this: whatever a host says, however late, is what counts."""
        self._unacknowledged[host_id] += len(holds)
        statuses: Sequence[JobStatus] | None = None
        try:
            statuses = await self._links[host_id].submit(jobs, self.term)
            by_id = {job.id: status for job, status in zip(jobs, statuses, strict=True)}
        except _REFUSALS as e:
            for hold in holds:
                self._state.abandon(hold)
            return _Answer(host_id, jobs, error=_as_of_host(host_id, e))
        except Exception as e:
            self._log_unknown(host_id, e)
            # If the host has the jobs they must not get onto another one, so they stay its own.
            statuses, by_id = None, {}
        finally:
            self._unacknowledged[host_id] -= len(holds)
            if not self._unacknowledged[host_id]:
                del self._unacknowledged[host_id]
        for hold in holds:
            if by_id.get(hold.placed.job.id, JobStatus.STARTING).ended:
                self._state.abandon(hold)
            else:
                self._state.commit(hold)
        return _Answer(host_id, jobs, statuses)

    def _log_unknown(self, host_id: str, error: Exception) -> None:
        if isinstance(error, FlynnHostError):
            self.log.warn(
                "Host {host_id} may have its jobs or not: {reason}", host_id=host_id, reason=str(error)
            )
        else:
            self.log.failure("Host {host_id} may have its jobs or not", host_id=host_id)

    def _raise_for(self, answers: Sequence[_Answer]) -> None:
        """Tell what became of a batch that not every host has acknowledged."""
        outcomes = [(job.id, answer.outcome) for answer in answers for job in answer.jobs]
        refusals = [answer.error for answer in answers if answer.error is not None]
        if refusals:
            if len(refusals) < len(answers):
                self.log.warn(
                    "Some hosts have taken their part of a batch and others not: {outcomes}",
                    outcomes=outcomes,
                )
            raise refusals[0]
        if any(answer.statuses is None for answer in answers):
            raise TookTooLong(f"not every host has acknowledged within {ACKNOWLEDGE_WITHIN:g} s", outcomes)


def _as_of_host(host_id: str, error: FlynnHostError) -> FlynnHostError:
    if isinstance(error, InvalidField):
        return InvalidField(f"{host_id}{error.field}", error.reason)
    if isinstance(error, StaleTerm):
        return NotReady(f"host {host_id} has heard a later leader: {error}")
    return error
