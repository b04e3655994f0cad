"""What a leader is told of this host's jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from attrs import define, field

from flynnhost import messages
from flynnhost.agent.leader_outgoing import Outgoing
from flynnhost.agent.on_the_way import OnTheWay
from flynnhost.canonical import canonical
from flynnhost.interfaces import IAgent, ISubscription
from flynnhost.messages import Attributes, Created, Draining, Ended, EndedBefore, Hello, Report
from flynnhost.model import ActiveJob, EventKind, JobEvent


@define(eq=False)
class JobReport:
    """Tells a leader which jobs this host has, and from then on which it gets and which end: none
    is missed, and none told twice.
    """

    _agent: IAgent
    _on_the_way: OnTheWay
    _outgoing: Outgoing
    _subscriptions: list[ISubscription] = field(init=False, factory=list)
    # The jobs that are reported although this host does not have them yet.
    _early: set[str] = field(init=False, factory=set)

    @property
    def begun(self) -> bool:
        """Whether the leader is being told, or was."""
        return bool(self._subscriptions)

    def begin(self, past: int, hello: Hello) -> None:
        """Begin with the jobs there are.

        :param past: of how many jobs that have ended the leader wants to know.
        :param hello: what the leader was told as the session began.
        :raises NotReady: when this host does not know them yet.
        """
        # In one turn: what there is and what comes fit together.
        jobs = self._agent.jobs()
        active = [job for job in jobs.values() if not job.ended]
        ended = list(self._agent.latest_ended(past))
        before = EndedBefore(ended, len(active) + len(ended) == len(jobs))
        self._subscriptions = [self._agent.events.subscribe(self._job_changed)]
        there = {job.id for job in active}
        early = {job_id: job for job_id, job in self._on_the_way.items() if job_id not in there}
        self._early = set(early)
        self._on_the_way.settled = self._settled
        self._outgoing.say_long(_pieces(before, active, list(early.values())))
        self._subscriptions += [
            self._agent.watch_draining(self._drains),
            self._agent.watch_attributes(self._attributes_changed),
        ]
        if self._agent.draining != hello.draining:
            self._drains(self._agent.draining)
        if self._agent.attributes != hello.attributes:
            self._attributes_changed(self._agent.attributes)

    def stop(self) -> None:
        """Tell nothing more."""
        self._early.clear()
        for subscription in self._subscriptions:
            subscription.cancel()

    def _drains(self, draining: bool) -> None:
        self._outgoing.say(Draining(draining))

    def _attributes_changed(self, attributes: Mapping[str, str]) -> None:
        self._outgoing.say(Attributes(dict(attributes)))

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
