"""Those who want to be connected to a job before it starts, for which its start waits a little."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from attrs import define, field
from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost.background import Background
from flynnhost.model import ActiveJob

PREPARE_WITHIN = 5.0
"""Seconds that a job's start waits for them at the most."""


@define(eq=False)
class Start:
    """A start that is about to be made.

    :ivar begun: whether it is too late to be connected before it.
    """

    job: ActiveJob
    begun: bool = field(init=False, default=False)


Prepare = Callable[[Start], Coroutine[Deferred[Any], Any, None]]


@define(eq=False)
class BeforeStart:
    """Knows who waits for the start of which job."""

    log = Logger()

    _clock: IReactorTime
    _background: Background
    _waiting: dict[str, dict[Prepare, None]] = field(init=False, factory=dict)

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, job_id: str, prepare: Prepare) -> None:
        """Have something done each time the job is about to be started, until ``leave``."""
        self._waiting.setdefault(job_id, {})[prepare] = None

    def leave(self, job_id: str, prepare: Prepare) -> None:
        """Have it not done any more. Does nothing if it would not be done."""
        waiting = self._waiting.get(job_id, {})
        waiting.pop(prepare, None)
        if not waiting:
            self._waiting.pop(job_id, None)

    async def about_to_start(self, job: ActiveJob) -> None:
        """Return when all who wait are connected, or too slow: they don't keep the job from starting."""
        waiting = list(self._waiting.get(job.id, ()))
        if not waiting:
            return
        start = Start(job)
        preparing = [
            self._background.run(prepare(start), f"attaching to job {job.id} before its start")
            for prepare in waiting
        ]
        try:
            await DeferredList(preparing, consumeErrors=True).addTimeout(PREPARE_WITHIN, self._clock)
        except defer.TimeoutError:
            self.log.warn(
                "Job {job_id} is started before all who wait for it are attached: the engine is slow",
                job_id=job.id,
            )
        finally:
            start.begun = True
