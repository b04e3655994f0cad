"""One client at the streams of a command that runs in a job."""

from __future__ import annotations

from typing import TypeVar

from attrs import define, field
from twisted.internet import defer
from twisted.internet.defer import Deferred

from flynnhost.agent.attached import Attached, NotToBeHad, kept
from flynnhost.agent.errands import Errands
from flynnhost.background import Background
from flynnhost.errors import ContainerNotRunning, NoSuchContainer
from flynnhost.gate import Gate
from flynnhost.interfaces import ExecSpec, IContainers, IExecution

T = TypeVar("T")

FREED_WITHIN = 20.0
"""Seconds within which a command has ended, or all that can be done to end it was done."""


@define(eq=False)
class Execution(Attached):
    """An ``IAttachment`` to a command, which ends with its client."""

    _background: Background
    _containers: IContainers
    _container_id: str
    _spec: ExecSpec
    _execution: IExecution | None = field(init=False, default=None)
    _begun: Gate = field(init=False, factory=Gate)

    def __attrs_post_init__(self) -> None:
        self._errands = Errands(self._background, self._whose, self._send_signal, self._set_size)

    def when_begun(self) -> Deferred[None]:
        """A Deferred of your own that fires when the engine has begun the command or has not been able
        to, also if the client has gone since; never fails.
        """
        return self._begun.wait()

    async def _serve(self) -> None:
        starting = self._containers.exec(self._container_id, self._spec, self)
        starting.addBoth(self._answered)
        try:
            self._execution = execution = await kept(starting, lambda late: late.close())
        except (ContainerNotRunning, NoSuchContainer) as e:
            raise NotToBeHad(f"{self._whose} does not run any more") from e
        self._tell_attached()
        self._take_from(execution)
        if self._spec.stdin:
            self._typed.open(execution)
        self._errands.begin()
        self._exit(await execution.exit_status())

    async def _let_go(self) -> None:
        if self._execution is None:
            return
        self._execution.close()
        try:
            await self._execution.when_closed().addTimeout(FREED_WITHIN, self._clock)
        except defer.TimeoutError:
            self.log.warn("A command in {whose} does not let go", whose=self._whose)

    def output_received(self, stream: int, data: bytes) -> None:
        """See ``ILogReceiver``."""
        self._pass_on(stream, data)

    def output_ended(self, error: Exception | None) -> None:
        """See ``ILogReceiver``; whether all was well the exit status tells, or its failure."""

    def _answered(self, answer: T) -> T:
        self._begun.open()
        return answer

    def _send_signal(self, number: int) -> Deferred[None]:
        return self._running().signal(number)

    def _set_size(self, height: int, width: int) -> Deferred[None]:
        return self._running().resize(height, width)

    def _running(self) -> IExecution:
        if self._execution is None:
            raise ContainerNotRunning(self._container_id)
        return self._execution
