"""Takes accepted jobs to where they run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost.agent.adoption import leased_ports
from flynnhost.agent.engine import EngineHealth
from flynnhost.agent.images import ImagePulls
from flynnhost.agent.ports import PortLeases
from flynnhost.agent.spec import LABEL_DIGEST, LABEL_HOST, LABEL_JOB, JobContainers, container_name
from flynnhost.agent.table import JobTable
from flynnhost.background import Background, Backoff
from flynnhost.errors import (
    EngineRefused,
    EngineUnavailable,
    ImageMissing,
    JournalFailed,
    NameTaken,
    NoPortsLeft,
    NoSuchContainer,
    PortTaken,
    PullFailed,
)
from flynnhost.image import parse_image
from flynnhost.interfaces import ContainerState, IContainers
from flynnhost.model import ActiveJob, Phase

T = TypeVar("T")

STOPPED_EARLY = "stopped before it was started"

LOST = "its container was removed while it was being started; whether it ran is not known"

FIRST_RETRY = 1.0
"""Seconds before a job is tried again, at first."""

PULL_TRIES = 3
"""Times an image is pulled that is gone when the container is to be made."""

PORT_TRIES = 5
"""Times a job gets other ports when a program took them between the lease and the start."""

Refusals = (EngineRefused, PullFailed, NoPortsLeft, PortTaken)
"""What ends a job that has not started, for good."""


class _StoppedEarly(Exception):
    """Somebody asked for the job to be stopped while it was being started."""


class _Lost(Exception):
    """The job's container is gone, and may have run."""


@define(eq=False)
class Runner:
    """Starts jobs, several at a time, each in its own coroutine.

    Every step can be repeated: a job that was interrupted at any point, by the end of this
    process or of the engine, is simply run again from the record that the journal has of it.
    Two rules make that safe. A container is started only when its ID is on disk. And one that
    was not made just now is looked at first, so that what has run is never started again.

    :param slots: bounds how many jobs are being created and started at the same time.
    :param before_start: done with each job that is about to be started; does not fail, nor take long.
    """

    log = Logger()

    _clock: IReactorTime
    _table: JobTable
    _containers: IContainers
    _engine: EngineHealth
    _images: ImagePulls
    _ports: PortLeases
    _specs: JobContainers
    _background: Background
    _slots: DeferredSemaphore
    _before_start: Callable[[ActiveJob], Coroutine[Deferred[Any], Any, None]]
    _running: set[str] = field(init=False, factory=set)
    _waits: dict[str, Deferred[Any]] = field(init=False, factory=dict)

    def run(self, job_id: str) -> None:
        """Begin to start a job, unless that is going on."""
        if job_id not in self._running:
            self._running.add(job_id)
            self._background.run(self._run(job_id), f"starting job {job_id}")

    def runs(self, job_id: str) -> bool:
        """Whether the job is being started at the moment."""
        return job_id in self._running

    def stop_early(self, job_id: str) -> None:
        """End the wait of a job that has no container yet, so that it sees ``force_stop`` now."""
        if not self._table.get(job_id).container_id and job_id in self._waits:
            self._waits.pop(job_id).cancel()

    async def _run(self, job_id: str) -> None:
        backoff = Backoff(self._clock, FIRST_RETRY)
        try:
            while not self._table.get(job_id).ended:
                try:
                    await self._try(job_id)
                    return
                except (EngineUnavailable, JournalFailed) as e:
                    await self._wait_for_better(job_id, str(e), backoff)
        finally:
            self._running.discard(job_id)

    async def _try(self, job_id: str) -> None:
        """Try once to start the job, or to find out that it can't be.

        :raises EngineUnavailable: when it has to be tried again.
        :raises JournalFailed: when it has to be tried again.
        """
        try:
            image = None
            for _ in range(PULL_TRIES):
                image = await self._in_slot(job_id)
                if image is None:
                    return
                await self._pull(job_id, image)
            raise EngineRefused(f"{image} was pulled again and again, and is not there")
        except _StoppedEarly:
            await self._give_up(job_id, STOPPED_EARLY)
        except _Lost:
            await self._table.lose(job_id, LOST)
        except Refusals as e:
            await self._give_up(job_id, str(e))

    async def _in_slot(self, job_id: str) -> str | None:
        """Start the job as soon as others let it. Gives the image that has to be pulled first, if any."""
        self._check_stop_early(job_id)
        await self._wait(job_id, self._slots.acquire())
        try:
            await self._start(job_id)
        except ImageMissing as e:
            if not parse_image(self._table.get(job_id).job.artifact.url).pullable:
                raise EngineRefused(f"{e}, and an image ID can't be pulled") from e
            return e.image
        finally:
            self._slots.release()
        return None

    async def _start(self, job_id: str) -> None:
        for _ in range(PORT_TRIES):
            state = await self._container(job_id)
            if state is not None and state.started_at is not None:
                await self._table.observe(job_id, state)
                return
            self._check_stop(job_id)
            try:
                await self._start_container(job_id)
                return
            except PortTaken as e:
                job = self._table.get(job_id)
                if all(port.port for port in job.job.config.ports):
                    raise
                self.log.warn("Job {job_id} gets other ports: {reason}", job_id=job_id, reason=str(e))
                await self._discard(job)
        raise NoPortsLeft(self._ports.first, self._ports.last)

    async def _container(self, job_id: str) -> ContainerState | None:
        """See to it that the job has a container. None if it was made just now."""
        job = self._table.get(job_id)
        if not job.container_id:
            return await self._create(job)
        try:
            return await self._containers.inspect(job.container_id)
        except NoSuchContainer:
            raise _Lost from None

    async def _create(self, job: ActiveJob) -> ContainerState | None:
        self._check_stop(job.id)
        if not job.host_ports:
            self._table.note(job.id, host_ports=self._ports.lease(job.id, job.job.config.ports))
        job = self._table.note(job.id, phase=Phase.CREATING, detail="")
        state = None
        try:
            container_id = await self._containers.create(self._specs.spec(job))
        except NameTaken:
            state = await self._named_container(job)
            container_id = state.id
            if state.started_at is None and leased_ports(state.labels) != job.host_ports:
                # Made by a run that was interrupted, which had leased other ports.
                await self._containers.remove(container_id)
                state, container_id = None, await self._containers.create(self._specs.spec(job))
        self._table.note(job.id, container_id=container_id)
        if state is not None:
            self._take_ports(job, leased_ports(state.labels))
        return state

    def _take_ports(self, job: ActiveJob, ports: tuple[int, ...]) -> None:
        """Let a job have the ports that its container has."""
        if ports != job.host_ports:
            self._ports.release(job.id, job.host_ports)
            self._ports.keep(job.id, ports)
            self._table.note(job.id, host_ports=ports)

    async def _named_container(self, job: ActiveJob) -> ContainerState:
        """The container that has the job's name, if it was made for it."""
        name = container_name(job.id)
        try:
            state = await self._containers.inspect(name)
        except NoSuchContainer as e:
            raise EngineUnavailable(f"{name} was there, and is not any more") from e
        ours = {LABEL_HOST: job.host_id, LABEL_JOB: job.id, LABEL_DIGEST: job.digest}
        if any(state.labels.get(label) != value for label, value in ours.items()):
            raise EngineRefused(f"there is a container named {name} that was not made for this job")
        return state

    async def _start_container(self, job_id: str) -> None:
        job = await self._table.note_durably(job_id, phase=Phase.STARTING, detail="")
        await self._before_start(job)
        refused: EngineRefused | None = None
        try:
            await self._containers.start(job.container_id)
        except EngineRefused as e:
            refused = e
        except NoSuchContainer:
            raise _Lost from None
        state = await self._container(job_id)
        if state is None:
            raise _Lost
        if refused is not None and state.started_at is None:
            raise refused
        await self._table.observe(job_id, state)

    async def _discard(self, job: ActiveJob) -> None:
        """Undo the making of a container that was never started, and the lease of its ports.

        In this order: between the two, a job without its container would be taken for lost.
        """
        self._ports.release(job.id, job.host_ports)
        await self._table.note_durably(job.id, phase=Phase.CREATING, container_id="", host_ports=())
        await self._containers.remove(job.container_id)

    async def _pull(self, job_id: str, image: str) -> None:
        self._check_stop_early(job_id)
        self._table.note(job_id, phase=Phase.PULLING, detail=f"pulling {image}")
        pulled = self._images.pull(image, lambda text: self._progressed(job_id, text))
        await self._wait(job_id, pulled)

    def _progressed(self, job_id: str, text: str) -> None:
        if text:
            self._table.note(job_id, detail=text)

    async def _wait_for_better(self, job_id: str, reason: str, backoff: Backoff) -> None:
        self.log.warn("Job {job_id} can't be started yet: {reason}", job_id=job_id, reason=reason)
        self._table.note(job_id, detail=f"waiting: {reason}")
        # A start that the engine got and did not answer is over, or holds back our next
        # inspect, long before the first wait is: so it is never repeated unseen.
        with suppress(_StoppedEarly):
            self._check_stop_early(job_id)
            await self._wait(job_id, backoff.wait())
            await self._wait(job_id, self._engine.back())

    async def _give_up(self, job_id: str, reason: str) -> None:
        """End a job that is known not to have started, then remove what was made for it.

        In this order: between the two, a job without its container would have lost its reason.
        """
        container_id = self._table.get(job_id).container_id
        await self._table.fail(job_id, reason)
        if container_id:
            try:
                await self._containers.remove(container_id)
            except (EngineUnavailable, EngineRefused) as e:
                self.log.warn("The container of {job_id} stays for now: {e}", job_id=job_id, e=str(e))

    async def _wait(self, job_id: str, wait: Deferred[T]) -> T:
        """Wait for something that a stop may cut short."""
        self._waits[job_id] = wait
        try:
            return await wait
        except CancelledError:
            self._check_stop_early(job_id)
            raise
        finally:
            self._waits.pop(job_id, None)

    def _check_stop(self, job_id: str) -> None:
        if self._table.get(job_id).force_stop:
            raise _StoppedEarly

    def _check_stop_early(self, job_id: str) -> None:
        """The same for a job of which it need not be asked whether it was started already."""
        if not self._table.get(job_id).container_id:
            self._check_stop(job_id)
