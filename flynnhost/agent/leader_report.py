"""What a leader is told of this host's jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from attrs import define, field

from flynnhost import messages
from flynnhost.agent.leader_outgoing import Outgoing
from flynnhost.agent.on_the_way import OnTheWay
from flynnhost.canonical import canonical
from flynnhost.interfaces import IAgent, ISubscription
from flynnhost.messages import Created, Draining, Ended, EndedBefore, Report
from flynnhost.model import ActiveJob, EventKind, JobEvent


@define(eq=False)
class JobReport:
    """Tells a leader which jobs this host has, and from then on which it gets and which end: none
    is missed, and none told twice.
    """

    _agent: IAgent
    _on_the_way: OnTheWay
    _outgoing: Outgoing
    _subscription: ISubscription | None = field(init=False, default=None)
    _draining: ISubscription | None = field(init=False, default=None)
    # The jobs that are reported although this host does not have them yet.
    _early: set[str] = field(init=False, factory=set)

    @property
    def begun(self) -> bool:
        """Whether the leader is being told, or was."""
        return self._subscription is not None

    def begin(self, past: int, draining: bool) -> None:
        """Begin with the jobs there are.

        :param draining: what the leader thinks whether this host drains.
        :param past: of how many jobs that have ended the leader wants to know.
        :raises NotReady: when this host does not know them yet.
        """
        # In one turn: what there is and what comes fit together.
        jobs = self._agent.jobs()
        active = [job for job in jobs.values() if not job.ended]
        ended = list(self._agent.latest_ended(past))
        before = EndedBefore(ended, len(active) + len(ended) == len(jobs))
        self._subscription = self._agent.events.subscribe(self._job_changed)
        there = {job.id for job in active}
        early = {job_id: job for job_id, job in self._on_the_way.items() if job_id not in there}
        self._early = set(early)
        self._on_the_way.settled = self._settled
        self._outgoing.say_long(_pieces(before, active, list(early.values())))
        self._draining = self._agent.watch_draining(self._drains)
        if self._agent.draining != draining:
            self._drains(self._agent.draining)

    def stop(self) -> None:
        """Tell nothing more."""
        self._early.clear()
        for subscription in (self._subscription, self._draining):
            if subscription is not None:
                subscription.cancel()

    def _drains(self, draining: bool) -> None:
        self._outgoing.say(Draining(draining))

    def _job_changed(self, event_id: str, event: JobEvent) -> None:
        if event.job.ended:
            self._outgoing.say(Ended(event.job.id))
        elif event.kind is EventKind.CREATE and event.job.id not in self._on_the_way:
            # Of the others the leader knows, as it has sent them or they were reported.
            self._outgoing.say(Created(msgspec.Raw(canonical(event.job.job))))

    def _settled(self, job_id: str) -> None:
        """A job that was reported before this host had it was taken, or was not."""
        if job_id not in self._early:
            return
        self._early.discard(job_id)
        job = self._agent.jobs().get(job_id)
        if job is None or job.ended:
            self._outgoing.say(Ended(job_id, taken=job is not None))


def _pieces(before: EndedBefore, active: Sequence[ActiveJob], early: Sequence[bytes]) -> Iterator[bytes]:
    def encoded() -> Iterator[bytes]:
        for job in active:
            yield canonical(job.job)
        yield from early

    if before.job_ids or not before.all:
        yield messages.encode(before)
    for chunk in messages.chunked(encoded()):
        yield messages.encode(Report(chunk, last=False))
    yield messages.encode(Report([], last=True))
