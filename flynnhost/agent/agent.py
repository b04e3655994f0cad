"""This host and its jobs, as others see them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn, TypeVar

from attrs import define, field
from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from flynnhost import __version__
from flynnhost.agent.attachments import Attachments
from flynnhost.agent.attributes import Attributes
from flynnhost.agent.clearing import Clearing
from flynnhost.agent.draining import Draining
from flynnhost.agent.engine import EngineHealth
from flynnhost.agent.intake import Intake
from flynnhost.agent.output import JobOutput
from flynnhost.agent.ports import PortLeases
from flynnhost.agent.reconcile import Reconciler
from flynnhost.agent.runner import Runner
from flynnhost.agent.settings import HostSettings
from flynnhost.agent.spec import host_labels
from flynnhost.agent.stopping import Stopper
from flynnhost.agent.table import JobTable
from flynnhost.background import Background, shielded
from flynnhost.errors import JournalFailed, NotReady, StaleTerm, TookTooLong
from flynnhost.gate import Gate
from flynnhost.interfaces import (
    AttachQuery,
    Check,
    EngineFacts,
    ExecSpec,
    IAgent,
    IAttachClient,
    IAttachment,
    IContainers,
    IEntryReceiver,
    IJournal,
    ILogReceiver,
    ILogStream,
    ISubscription,
    IWatch,
    JobFeed,
    JournalContents,
    LogQuery,
)
from flynnhost.model import ActiveJob, Job, JobStatus

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds within which whoever asks for something is told what is known of it."""


@implementer(IAgent)
@define(eq=False)
class Agent(Service):
    """An ``IAgent`` as a service.

    It takes jobs as soon as it has read its journal, whether the engine is there or not.

    :param failed: called with the reason when this host can't work at all.
    """

    log = Logger()

    _clock: IReactorTime
    settings: HostSettings
    events: JobFeed
    _journal: IJournal
    _containers: IContainers
    _background: Background
    _table: JobTable
    _engine: EngineHealth
    _ports: PortLeases
    _runner: Runner
    _intake: Intake
    _reconciler: Reconciler
    _stopper: Stopper
    _output: JobOutput
    _attachments: Attachments
    _clearing: Clearing
    _draining: Draining
    _attributes: Attributes
    _failed: Callable[[str], None]
    _closed: str = field(init=False, default="the job journal has not been read yet")
    _since: datetime = field(init=False)
    _watch: IWatch | None = field(init=False, default=None)
    _open: Gate = field(init=False, factory=Gate)

    def __attrs_post_init__(self) -> None:
        self._since = self._table.now()

    @property
    def host_id(self) -> str:
        """This host's ID."""
        return self.settings.host_id

    @property
    def attributes(self) -> Mapping[str, str]:
        """What is said of this host for schedulers.

        :raises NotReady: when it is not known yet what was said at run time.
        """
        self._check_open()
        return self._attributes.now

    @property
    def resources(self) -> Mapping[str, int]:
        """What the machine has."""
        return self.settings.resources

    @property
    def draining(self) -> bool:
        """Whether this host is to get no more jobs from leaders."""
        return self._draining.now

    @property
    def engine_facts(self) -> EngineFacts | None:
        """What the container engine says of itself; None before it has."""
        return self._engine.facts

    @property
    def highest_term(self) -> int:
        """The highest leader's term that this host has seen."""
        return self._intake.highest_term

    # --- the service ---------------------------------------------------------

    def startService(self) -> None:
        """Begin: read the journal, then take up all jobs where they are."""
        super().startService()
        self._background.run(self._start(), "starting")

    def stopService(self) -> Deferred[None]:
        """Leave the containers running, and put everything else to rest."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    def opened(self) -> Deferred[None]:
        """Fires when this host has read its journal and takes jobs."""
        return self._open.wait()

    def begin_term(self) -> Deferred[int]:
        """Fires with a term higher than any this host has seen, when that is on disk."""
        return shielded(Deferred.fromCoroutine(self._begin_term()))

    async def _begin_term(self) -> int:
        await self.opened()
        term = self.highest_term + 1
        await self._intake.accept([], term)
        return term

    async def _start(self) -> None:
        try:
            contents = await self._journal.open()
        except JournalFailed as e:
            self._failed(str(e))
            return
        self._restore(contents)
        if self.settings.force:
            self._closed = "--force is ending what an earlier instance booted"
            await self._clearing.clear()
        self._closed = ""
        self._take_up()
        self._open.open()

    def _restore(self, contents: JournalContents) -> None:
        for lost in contents.set_aside:
            self.log.error("The journal was damaged. Set aside: {lost}", lost=lost)
        self._table.restore(contents.jobs)
        self._intake.highest_term = contents.highest_term
        self._draining.now = contents.draining
        self._attributes.restore(contents.attributes)
        for job in contents.jobs:
            if not job.ended:
                self._ports.keep(job.id, job.host_ports)
        self.log.info("The journal knows {count} jobs", count=len(contents.jobs))

    def _take_up(self) -> None:
        """Go on with every job where it was left."""
        self._engine.start()
        self._reconciler.start()
        self._watch = self._containers.watch(host_labels(self.host_id), self._reconciler)
        for job in list(self._table.jobs.values()):
            if not job.ended and job.status is JobStatus.STARTING:
                self._runner.run(job.id)
            if not job.ended and job.force_stop:
                self._stopper.begin(job.id)

    async def _stop(self) -> None:
        self._closed = "this host is shutting down"
        self._open.shut()
        await self._attachments.stop()
        self._engine.stop()
        self._reconciler.stop()
        if self._watch is not None:
            await self._watch.stop()
        await self._background.cancel()
        await self._journal.close()
        await self._containers.close()

    # --- IAgent --------------------------------------------------------------

    def jobs(self) -> Mapping[str, ActiveJob]:
        """See ``IAgent``."""
        self._check_open()
        return self._table.jobs

    def job(self, job_id: str) -> ActiveJob:
        """See ``IAgent``."""
        self._check_open()
        return self._table.get(job_id)

    def latest_ended(self, limit: int) -> Sequence[str]:
        """See ``IAgent``."""
        self._check_open()
        return self._table.latest_ended(limit)

    def accept(self, jobs: Sequence[Job], term: int) -> Deferred[list[ActiveJob]]:
        """See ``IAgent``."""
        return self._when_open(lambda: self._intake.accept(jobs, term), "the jobs may be on disk or not")

    def set_draining(self, draining: bool, term: int) -> Deferred[None]:
        """See ``IAgent``."""
        if term < self.highest_term:
            return fail(StaleTerm(term, self.highest_term))
        return self._when_open(lambda: self._draining.set(draining), "it may be on disk or not")

    def watch_draining(self, listener: Callable[[bool], None]) -> ISubscription:
        """See ``IAgent``."""
        return self._draining.listeners.add(listener)

    def set_attribute(self, name: str, value: str) -> Deferred[None]:
        """See ``IAgent``."""
        return self._when_open(lambda: self._attributes.set(name, value), "it may be on disk or not")

    def remove_attribute(self, name: str) -> Deferred[None]:
        """See ``IAgent``."""
        return self._when_open(lambda: self._attributes.remove(name), "it may be on disk or not")

    def watch_attributes(self, listener: Callable[[Mapping[str, str]], None]) -> ISubscription:
        """See ``IAgent``."""
        return self._attributes.listeners.add(listener)

    def stop_job(self, job_id: str) -> Deferred[ActiveJob]:
        """See ``IAgent``."""
        late = f"job {job_id} has not ended yet; it is still being stopped"
        return self._when_open(lambda: self._stopper.stop(job_id), late, self._stopper.patience(job_id))

    def signal_job(self, job_id: str, signal: int) -> Deferred[None]:
        """See ``IAgent``."""
        return self._when_open(lambda: self._stopper.signal(job_id, signal), "the signal may have been sent")

    def job_output(self, job_id: str, query: LogQuery, receiver: ILogReceiver) -> Deferred[ILogStream]:
        """See ``IAgent``."""
        if self._closed:
            return fail(NotReady(self._closed))
        return Deferred.fromCoroutine(self._output.read(job_id, query, receiver))

    def job_entries(self, job_id: str, query: LogQuery, receiver: IEntryReceiver) -> Deferred[ILogStream]:
        """See ``IAgent``."""
        if self._closed:
            return fail(NotReady(self._closed))
        return Deferred.fromCoroutine(self._output.read_entries(job_id, query, receiver))

    def attach(self, query: AttachQuery, client: IAttachClient) -> IAttachment:
        """See ``IAgent``."""
        self._check_open()
        return self._attachments.attach(query, client)

    def exec(self, job_id: str, spec: ExecSpec, client: IAttachClient) -> IAttachment:
        """See ``IAgent``."""
        self._check_open()
        return self._attachments.exec(job_id, spec, client)

    def readiness(self) -> tuple[Check, ...]:
        """See ``IAgent``."""
        reconciled = self._reconciler.done_once
        return (
            Check("journal", not self._closed, self._closed or "is open"),
            self._engine.check,
            Check(
                "reconciled",
                reconciled,
                "all containers were looked at"
                if reconciled
                else "the containers have not been looked at yet",
            ),
        )

    def status(self) -> Mapping[str, Any]:
        """See ``IAgent``."""
        jobs = self._table.jobs.values()
        return {
            "id": self.host_id,
            "version": __version__,
            "external_ip": self.settings.external_ip,
            "attributes": dict(self._attributes.now),
            "resources": dict(self.resources),
            "draining": self.draining,
            "since": self._since,
            "ready": all(check.ok for check in self.readiness()),
            "checks": [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in self.readiness()],
            "jobs": {
                "total": len(jobs),
                "by_status": Counter(job.status.name.lower() for job in jobs),
                "by_phase": Counter(job.phase.value for job in jobs),
            },
            "ports": {"first": self._ports.first, "last": self._ports.last, "leased": self._ports.in_use},
            "highest_term": self.highest_term,
        }

    def _check_open(self) -> None:
        if self._closed:
            raise NotReady(self._closed)

    def _when_open(
        self, work: Callable[[], Coroutine[Deferred[Any], Any, T]], late: str, patience: float = PATIENCE
    ) -> Deferred[T]:
        """Do something to the end, whether the one who asked goes on waiting or not.

        :param late: what is known when it takes longer than ``patience`` seconds.
        """
        if self._closed:
            return fail(NotReady(self._closed))
        answer = shielded(Deferred.fromCoroutine(work())).addTimeout(patience, self._clock)

        def too_late(failure: Failure) -> NoReturn:
            failure.trap(defer.TimeoutError)
            raise TookTooLong(f"no answer within {patience:g} s: {late}")

        return answer.addErrback(too_late)
