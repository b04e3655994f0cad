"""A host and a cluster in memory, which do as their interfaces say and as tests tell them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import attrs
from attrs import define, field
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from flynnhost.attributes import check_name, check_value
from flynnhost.canonical import digest
from flynnhost.errors import (
    FlynnHostError,
    JobConflict,
    JobNotRunning,
    NoLeader,
    NotReady,
    UnknownAttribute,
    UnknownHost,
    UnknownJob,
)
from flynnhost.feed import Feed
from flynnhost.interfaces import (
    AttachQuery,
    Check,
    ExecSpec,
    IAgent,
    IAttachClient,
    IAttachment,
    ICluster,
    IEntryReceiver,
    ILogReceiver,
    ILogStream,
    ISubscription,
    LogQuery,
)
from flynnhost.model import (
    ActiveJob,
    EventKind,
    Host,
    HostEvent,
    HostEventKind,
    Job,
    JobEvent,
    JobStatus,
    Phase,
    Placement,
)
from flynnhost.testing.attachment import FakeAttachment

_DAWN = datetime(2020, 1, 1, tzinfo=UTC)


def active_job(job: Job, **changes: Any) -> ActiveJob:
    """A job as it is right after it was accepted, but for the changes."""
    return attrs.evolve(ActiveJob(job, "h1", digest(job), _DAWN), **changes)


@define(eq=False)
class FakeLogStream:
    """A transfer of output that remembers how it was treated.

    :param calls: the names of the methods that were called, in order.
    """

    calls: list[str] = field(factory=list)

    def pauseProducing(self) -> None:
        """See ``ILogStream.pauseProducing``."""
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        """See ``ILogStream.resumeProducing``."""
        self.calls.append("resume")

    def stopProducing(self) -> None:
        """See ``ILogStream.stopProducing``."""
        self.calls.append("stop")


@define(eq=False)
class OutputRequest:
    """Somebody asked for a job's output; ``agreed`` is theirs to be fired or failed."""

    job_id: str
    query: LogQuery
    receiver: Any
    stream: FakeLogStream = field(factory=FakeLogStream)
    agreed: Deferred[ILogStream] = field(factory=Deferred)


@implementer(IAgent)
@define(eq=False)
class FakeAgent:
    """A host that runs nothing: tests move its jobs along.

    :param ready: whether the journal was read, so to say.
    :param hold: a Deferred that every change waits for, or fails with.
    :param outputs: who asked for output, in order.
    :param signals: the signals that were sent, in order.
    :param attachments: who attached, in order.
    :param at_once: what the job does before ``attach`` or ``exec`` has answered.
    """

    _clock: IReactorTime
    host_id: str = "h1"
    attributes: Mapping[str, str] = field(factory=dict)
    resources: Mapping[str, int] = field(factory=dict)
    draining: bool = False
    events: Feed[JobEvent] = field(factory=lambda: Feed("fake"))
    checks: tuple[Check, ...] = (Check("journal", ok=True, detail="read"),)
    ready: bool = True
    hold: Deferred[None] | None = None
    outputs: list[OutputRequest] = field(factory=list)
    signals: list[tuple[str, int]] = field(factory=list)
    attachments: list[FakeAttachment] = field(factory=list)
    at_once: Callable[[FakeAttachment], None] = field(default=lambda _: None)
    _jobs: dict[str, ActiveJob] = field(init=False, factory=dict)
    _draining: Feed[bool] = field(init=False, factory=lambda: Feed("draining"))
    _attributes: Feed[Mapping[str, str]] = field(init=False, factory=lambda: Feed("attributes"))

    def jobs(self) -> Mapping[str, ActiveJob]:
        """See ``IAgent.jobs``."""
        if not self.ready:
            raise NotReady("the journal was not read yet")
        return self._jobs

    def job(self, job_id: str) -> ActiveJob:
        """See ``IAgent.job``."""
        try:
            return self.jobs()[job_id]
        except KeyError:
            raise UnknownJob(job_id) from None

    def latest_ended(self, limit: int) -> Sequence[str]:
        """See ``IAgent.latest_ended``."""
        ended = [job for job in self.jobs().values() if job.ended]
        ended.sort(key=lambda job: job.ended_at or _DAWN, reverse=True)
        return [job.id for job in ended[:limit]]

    def accept(self, jobs: Sequence[Job], term: int) -> Deferred[list[ActiveJob]]:
        """See ``IAgent.accept``."""

        def accepted(_: None) -> list[ActiveJob]:
            for job in jobs:
                known = self.jobs().get(job.id)
                if known is not None and known.digest != digest(job):
                    raise JobConflict(job.id, "is there already, with other content")
            return [self._jobs.get(job.id) or self._created(job, term) for job in jobs]

        return self._held().addCallback(accepted)

    def set_draining(self, draining: bool, term: int) -> Deferred[None]:
        """See ``IAgent.set_draining``."""

        def said(_: None) -> None:
            self.draining = draining
            self._draining.publish("", draining)

        return self._held().addCallback(said)

    def watch_draining(self, listener: Callable[[bool], None]) -> ISubscription:
        """See ``IAgent.watch_draining``."""
        return self._draining.subscribe(lambda _, draining: listener(draining))

    def set_attribute(self, name: str, value: str) -> Deferred[None]:
        """See ``IAgent.set_attribute``."""

        def said(_: None) -> None:
            check_name(name, "name")
            check_value(value, "value")
            self._say_attributes({**self.attributes, name: value})

        return self._held().addCallback(said)

    def remove_attribute(self, name: str) -> Deferred[None]:
        """See ``IAgent.remove_attribute``."""

        def said(_: None) -> None:
            if name not in self.attributes:
                raise UnknownAttribute(name)
            self._say_attributes({key: value for key, value in self.attributes.items() if key != name})

        return self._held().addCallback(said)

    def _say_attributes(self, attributes: Mapping[str, str]) -> None:
        self.attributes = attributes
        self._attributes.publish("", attributes)

    def watch_attributes(self, listener: Callable[[Mapping[str, str]], None]) -> ISubscription:
        """See ``IAgent.watch_attributes``."""
        return self._attributes.subscribe(lambda _, attributes: listener(attributes))

    def stop_job(self, job_id: str) -> Deferred[ActiveJob]:
        """See ``IAgent.stop_job``; the job ends at once."""

        def stopped(_: None) -> ActiveJob:
            self._check_not_ended(job_id)
            return self.end(job_id, 143)

        return self._held().addCallback(stopped)

    def signal_job(self, job_id: str, signal: int) -> Deferred[None]:
        """See ``IAgent.signal_job``."""

        def sent(_: None) -> None:
            job = self.job(job_id)
            if job.status is not JobStatus.RUNNING:
                raise JobNotRunning(job_id, job.phase.value)
            self.signals.append((job_id, signal))

        return self._held().addCallback(sent)

    def job_output(self, job_id: str, query: LogQuery, receiver: ILogReceiver) -> Deferred[ILogStream]:
        """See ``IAgent.job_output``; the test fires ``outputs[-1].agreed``."""
        try:
            self.job(job_id)
        except FlynnHostError as e:
            return fail(e)
        request = OutputRequest(job_id, query, receiver)
        self.outputs.append(request)
        return request.agreed

    def job_entries(self, job_id: str, query: LogQuery, receiver: IEntryReceiver) -> Deferred[ILogStream]:
        """See ``IAgent.job_entries``; the test fires ``outputs[-1].agreed``."""
        return self.job_output(job_id, query, cast(Any, receiver))

    def attach(self, query: AttachQuery, client: IAttachClient) -> IAttachment:
        """See ``IAgent.attach``; the test does the rest with ``attachments[-1]``."""
        if not query.wait:
            self.job(query.job_id)
        return self._attached(FakeAttachment(client, query=query))

    def exec(self, job_id: str, spec: ExecSpec, client: IAttachClient) -> IAttachment:
        """See ``IAgent.exec``; the test does the rest with ``attachments[-1]``."""
        job = self.job(job_id)
        if job.status is not JobStatus.RUNNING:
            raise JobNotRunning(job_id, job.phase.value)
        return self._attached(FakeAttachment(client, job_id=job_id, spec=spec))

    def readiness(self) -> tuple[Check, ...]:
        """See ``IAgent.readiness``."""
        return self.checks

    def status(self) -> Mapping[str, Any]:
        """See ``IAgent.status``."""
        return {"id": self.host_id, "jobs": len(self.jobs())}

    def change(self, job_id: str, kind: EventKind, **changes: Any) -> ActiveJob:
        """Something happens to a job."""
        job = attrs.evolve(self.job(job_id), **changes)
        self._jobs[job_id] = job
        self.events.publish(job_id, JobEvent(kind, job))
        return job

    def run(self, job_id: str, host_ports: tuple[int, ...] = ()) -> ActiveJob:
        """A job gets to run."""
        return self.change(
            job_id,
            EventKind.START,
            status=JobStatus.RUNNING,
            phase=Phase.RUNNING,
            started_at=self._now(),
            host_ports=host_ports,
        )

    def end(self, job_id: str, exit_status: int) -> ActiveJob:
        """A job ends."""
        return self.change(
            job_id,
            EventKind.STOP,
            status=JobStatus.CRASHED if exit_status else JobStatus.DONE,
            phase=Phase.ENDED,
            ended_at=self._now(),
            exit_status=exit_status,
        )

    def fail(self, job_id: str, error: str) -> ActiveJob:
        """A job can't be started."""
        return self.change(
            job_id,
            EventKind.ERROR,
            status=JobStatus.FAILED,
            phase=Phase.ENDED,
            ended_at=self._now(),
            error=error,
        )

    def _attached(self, attachment: FakeAttachment) -> FakeAttachment:
        self.attachments.append(attachment)
        self.at_once(attachment)
        return attachment

    def _created(self, job: Job, term: int) -> ActiveJob:
        self._jobs[job.id] = ActiveJob(job, self.host_id, digest(job), self._now(), term)
        return self.change(job.id, EventKind.CREATE)

    def _check_not_ended(self, job_id: str) -> None:
        job = self.job(job_id)
        if job.ended:
            raise JobNotRunning(job_id, job.phase.value)

    def _held(self) -> Deferred[None]:
        return self.hold if self.hold is not None else succeed(None)

    def _now(self) -> datetime:
        return _DAWN + timedelta(seconds=self._clock.seconds())


@implementer(ICluster)
@define(eq=False)
class FakeCluster:
    """A cluster that keeps what it is told and has nobody to tell it to.

    :param leading: whether somebody leads.
    :param whole: what ``complete`` says.
    :param hold: a Deferred that every batch waits for, or fails with.
    """

    events: Feed[HostEvent] = field(factory=lambda: Feed("fake"))
    leading: bool = True
    whole: bool = True
    hold: Deferred[None] | None = None
    _hosts: dict[str, Host] = field(init=False, factory=dict)
    _known: dict[str, tuple[str, Job]] = field(init=False, factory=dict)

    def add_host(self, host: Host) -> None:
        """A host comes, with its jobs."""
        self._hosts[host.id] = host
        self._known.update({job.id: (host.id, job) for job in host.jobs})
        self.events.publish(host.id, HostEvent(HostEventKind.ADD, host.id))

    def remove_host(self, host_id: str) -> None:
        """A host leaves."""
        del self._hosts[host_id]
        self.events.publish(host_id, HostEvent(HostEventKind.REMOVE, host_id))

    def hosts(self) -> Sequence[Host]:
        """See ``ICluster.hosts``."""
        self._check_leading()
        return list(self._hosts.values())

    def complete(self) -> bool:
        """See ``ICluster.complete``."""
        self._check_leading()
        return self.whole

    def submit(self, batch: Mapping[str, Sequence[Job]]) -> Deferred[list[Placement]]:
        """See ``ICluster.submit``."""
        held = self.hold if self.hold is not None else succeed(None)
        return held.addCallback(lambda _: maybeDeferred(self._commit, batch))

    def leader(self) -> Mapping[str, Any]:
        """See ``ICluster.leader``."""
        self._check_leading()
        return {"id": "h1", "addr": "10.0.0.1:1113", "term": 7, "since": _DAWN}

    def _commit(self, batch: Mapping[str, Sequence[Job]]) -> list[Placement]:
        self._check_leading()
        for host_id, jobs in batch.items():
            if host_id not in self._hosts:
                raise UnknownHost(host_id)
            for job in jobs:
                if self._known.get(job.id, (host_id, job)) != (host_id, job):
                    raise JobConflict(job.id, f"is on host {self._known[job.id][0]} already")
        for host_id, jobs in batch.items():
            new = {job.id: job for job in jobs if job.id not in self._known}
            self._known.update({job_id: (host_id, job) for job_id, job in new.items()})
            host = self._hosts[host_id]
            self._hosts[host_id] = attrs.evolve(host, jobs=(*host.jobs, *new.values()))
        return [Placement(job.id, host_id, JobStatus.STARTING) for host_id in batch for job in batch[host_id]]

    def _check_leading(self) -> None:
        if not self.leading:
            raise NoLeader
