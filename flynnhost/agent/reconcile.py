"""Brings what is known of the jobs in line with what the engine says of their containers."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost.agent.adoption import adopted
from flynnhost.agent.engine import EngineHealth
from flynnhost.agent.intake import Intake
from flynnhost.agent.runner import Runner
from flynnhost.agent.spec import LABEL_JOB, host_labels
from flynnhost.agent.table import JobTable
from flynnhost.background import Background, Periodic
from flynnhost.errors import EngineRefused, EngineUnavailable, JournalFailed, NoSuchContainer
from flynnhost.interfaces import ContainerState, ContainerSummary, IContainers
from flynnhost.model import ActiveJob, JobStatus

INTERVAL = 30.0
"""Seconds between two looks at everything, for the events that no one sent."""

ENDINGS = frozenset({"die", "destroy"})
"""What the engine says when there may be an end to record."""

STUCK = 3
"""How many single containers can't be had before the engine as a whole is held for gone."""

_Look = Coroutine[Deferred[Any], Any, None]

Later = (EngineUnavailable, EngineRefused, JournalFailed)
"""What the next look at everything makes good."""


@define(eq=False)
class Reconciler:
    """Listens to the engine's events, and looks for itself: events are a hint only.

    It never touches a container without this host's label.
    """

    log = Logger()

    _clock: IReactorTime
    _host_id: str
    _table: JobTable
    _intake: Intake
    _containers: IContainers
    _engine: EngineHealth
    _runner: Runner
    _background: Background
    done_once: bool = field(init=False, default=False)
    _looking: dict[str, bool] = field(init=False, factory=dict)
    _periodic: Periodic = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._periodic = Periodic(
            self._clock, INTERVAL, self._all, "looking at all containers", self._background
        )

    def start(self) -> None:
        """Look at everything from time to time; the first time is when events flow."""
        self._periodic.start(now=False)

    def stop(self) -> None:
        """Look no more."""
        self._periodic.stop()

    # --- IContainerListener --------------------------------------------------

    def engine_connected(self) -> None:
        """See ``IContainerListener``."""
        self._engine.connected()
        self._periodic.soon()

    def engine_lost(self, reason: str) -> None:
        """See ``IContainerListener``."""
        self._engine.lost(reason)

    def container_changed(self, container_id: str, action: str, labels: Mapping[str, str]) -> None:
        """See ``IContainerListener``."""
        job = self._table.jobs.get(labels.get(LABEL_JOB, ""))
        if action in ENDINGS and job is not None and job.container_id in ("", container_id):
            self.look(job.id)

    # --- one job -------------------------------------------------------------

    def look(self, job_id: str) -> None:
        """Look at one job's container soon; once more if that is going on already."""
        if job_id in self._looking:
            self._looking[job_id] = True
        else:
            self._looking[job_id] = False
            self._background.run(self._look(job_id), f"looking at job {job_id}")

    async def _look(self, job_id: str) -> None:
        try:
            again = True
            while again:
                self._looking[job_id] = False
                try:
                    await self._look_once(job_id)
                except Later as e:
                    self.log.warn("Can't look at job {job_id} now: {reason}", job_id=job_id, reason=str(e))
                again = self._looking[job_id]
        finally:
            del self._looking[job_id]

    async def _look_once(self, job_id: str) -> None:
        job = self._table.get(job_id)
        if job.ended or not job.container_id:
            return
        try:
            state = await self._containers.inspect(job.container_id)
        except NoSuchContainer:
            if not self._runner.runs(job_id):
                await self._table.lose(job_id, "its container was removed, and its exit status with it")
            return
        await self._follow(job_id, state)

    async def _follow(self, job_id: str, state: ContainerState) -> None:
        if state.started_at is None:
            self._runner.run(job_id)
        else:
            await self._table.observe(job_id, state)

    # --- all of them ---------------------------------------------------------

    async def _all(self) -> None:
        try:
            listed = await self._containers.list_containers(host_labels(self._host_id))
            await self._each(self._looks(listed))
        except Later as e:
            self.log.warn("Can't look at all containers now: {reason}", reason=str(e))
            return
        self.done_once = True

    def _looks(self, listed: Sequence[ContainerSummary]) -> Iterator[tuple[str, _Look]]:
        """What there is to look at: each container, then each job that should have one."""
        for container in listed:
            yield container.name, self._compare(container)
        there = {container.id for container in listed}
        for job in list(self._table.jobs.values()):
            if not job.ended and job.container_id not in there:
                yield f"job {job.id}", self._without_container(job.id)

    async def _each(self, looks: Iterable[tuple[str, _Look]]) -> None:
        """Take one look after the other; a container that can't be had holds up no other.

        :raises EngineUnavailable: when so many can't be had that it must be the engine.
        :raises JournalFailed: when it must be the disk.
        """
        stuck = 0
        for name, look in looks:
            try:
                await look
            except Later as e:
                stuck += not isinstance(e, EngineRefused)
                if stuck == STUCK:
                    raise
                self.log.warn("Can't look at {name} now: {reason}", name=name, reason=str(e))

    async def _compare(self, container: ContainerSummary) -> None:
        job = self._table.jobs.get(container.labels.get(LABEL_JOB, ""))
        if job is None:
            await self._adopt(container)
        elif job.ended:
            await self._clear_away(container, never_ran=job.status is JobStatus.FAILED)
        elif container.id == job.container_id and not self._as_expected(container, job):
            await self._look_once(job.id)

    def _as_expected(self, container: ContainerSummary, job: ActiveJob) -> bool:
        if self._runner.runs(job.id):
            return True  # it looks for itself
        return container.running and job.status is JobStatus.RUNNING

    async def _clear_away(self, container: ContainerSummary, never_ran: bool) -> None:
        """Remove what a late answer of the engine left of a job that was given up."""
        if never_ran and not container.running:
            self.log.info("Removing {container}, left of a job that never ran", container=container.name)
            await self._containers.remove(container.id)

    async def _without_container(self, job_id: str) -> None:
        if self._table.get(job_id).container_id:
            await self._look_once(job_id)  # it may have been made after the listing
        else:
            self._runner.run(job_id)

    async def _adopt(self, container: ContainerSummary) -> None:
        if not container.labels.get(LABEL_JOB):
            return
        try:
            state = await self._containers.inspect(container.id)
        except NoSuchContainer:
            return
        job = adopted(state, self._host_id, self._table.now())
        if await self._intake.adopt(job):
            self.log.warn("Adopted job {job_id}, which the journal did not know", job_id=job.id)
            await self._follow(job.id, state)
