"""One host on fakes: its agent can be ended at any step and started again, its engine and disk remain."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from flynnhost.agent.agent import Agent
from flynnhost.agent.assembly import build_agent
from flynnhost.agent.settings import HostSettings
from flynnhost.agent.spec import container_name
from flynnhost.agent.spool import Spool, SpoolLimits
from flynnhost.agent.spool_files import SpoolFiles
from flynnhost.model import ActiveJob, Artifact, ContainerConfig, EventKind, Job, JobEvent
from flynnhost.testing.containers import FakeContainers
from flynnhost.testing.journal import MemoryJournal
from flynnhost.testing.seams import Steps, armed_containers, armed_journal
from flynnhost.testing.threads import NoThreads


def a_job(job_id: str, url: str = "busybox:latest", **config: Any) -> Job:
    """A job that a test can do without describing."""
    return Job(id=job_id, artifact=Artifact(url=url), config=ContainerConfig(**config))


@define(eq=False)
class World:
    """A host's surroundings, and the agent of the present run.

    :ivar agent_clock: what the agent goes by, if not by the clock of all.
    :ivar threads: what writes for slow readers.
    :ivar told: all events of all runs, in order.
    :ivar failures: the reasons for which runs gave up.
    """

    settings: HostSettings = field(factory=lambda: HostSettings("h1"))
    clock: Clock = field(factory=Clock)
    containers: FakeContainers = field(init=False)
    journal: MemoryJournal = field(init=False)
    agent: Agent = field(init=False)
    steps: Steps = field(init=False)
    busy_ports: set[int] = field(factory=set)
    told: list[JobEvent] = field(init=False, factory=list)
    failures: list[str] = field(init=False, factory=list)
    threads: NoThreads = field(init=False, factory=NoThreads)
    spool_limits: SpoolLimits = field(init=False, factory=SpoolLimits)
    agent_clock: IReactorTime | None = field(init=False, default=None)
    _runs: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.clock.advance(1_000_000)
        self.containers = FakeContainers(self.clock)
        self.journal = MemoryJournal(self.clock)

    def start(self, end_at: int = 0, **settings: Any) -> Agent:
        """Start a run.

        :param end_at: the number of the step at which it ends as by a kill -9; 0 for none.
        """
        self._runs += 1
        self.steps = Steps(lambda: None, end_at)
        self.agent = build_agent(
            self.agent_clock or self.clock,
            lambda: datetime.fromtimestamp(self.clock.seconds(), UTC),
            evolve(self.settings, **settings),
            armed_journal(self.journal, self.steps),
            armed_containers(self.containers, self.steps),
            lambda port, _: port not in self.busy_ports,
            f"run{self._runs}",
            self.make_spool,
            self.failures.append,
        )
        steps = self.steps
        self.agent.events.subscribe(lambda _, event: None if steps.ended else self.told.append(event))
        self.agent.startService()
        self.pass_time(0)
        return self.agent

    def kill(self) -> None:
        """End the run as by a kill -9. What is on disk stays there."""
        self.steps.ended = True
        # Nothing reaches the engine or the disk any more. What still waits is ended here, lest it go on
        # whenever the garbage collector comes to it.
        self.agent._background.cancel()
        self.journal = self.journal.crash()

    def make_spool(self, lost: Callable[[int, str], None]) -> Spool:
        """Where slow readers' output is kept; on disk when there is a lot of it."""
        return Spool(SpoolFiles(self.threads, Path(tempfile.gettempdir())), self.spool_limits, lost)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, in steps short enough for all that happens in it."""
        step = 0.25
        while seconds > step:
            self.clock.advance(step)
            seconds -= step
        self.clock.advance(seconds)
        self.clock.advance(0)

    def accept(self, *jobs: Job, term: int = 1) -> list[ActiveJob]:
        """Hand the host jobs, and have it answer."""
        accepted: list[ActiveJob] = self.answer(self.agent.accept(jobs, term))
        return accepted

    def job(self, job_id: str) -> ActiveJob:
        """How a job is."""
        return self.agent.job(job_id)

    def starts(self, job_id: str) -> int:
        """How often the job's process was started, ever."""
        return self.containers.started[container_name(job_id)]

    def events(self, job_id: str) -> list[EventKind]:
        """What was told of a job, by all runs."""
        return [event.kind for event in self.told if event.job.id == job_id]

    @staticmethod
    def forget(asked: Deferred[Any]) -> None:
        """Ask for something, and not care what is answered."""
        asked.addErrback(lambda _: None)

    def answer(self, asked: Deferred[Any], within: float = 0) -> Any:
        """What a Deferred fires with, which it must within some seconds of the clock.

        :raises Exception: what it fails with.
        """
        got: list[Any] = []
        asked.addBoth(got.append)
        self.pass_time(within)
        if not got:
            raise AssertionError(f"no answer within {within} s")
        if isinstance(got[0], Failure):
            got[0].raiseException()
        return got[0]
