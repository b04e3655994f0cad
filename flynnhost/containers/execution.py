"""A command that runs in a container, from its beginning to its end or ours."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from flynnhost.background import Background, Backoff
from flynnhost.containers.calls import EngineCalls
from flynnhost.containers.exec_process import ExecProcess
from flynnhost.containers.hijack import EngineLine
from flynnhost.containers.input import EngineInput
from flynnhost.containers.log_stream import LogStream
from flynnhost.containers.state import ExecState
from flynnhost.docker_frames import FrameDecoder
from flynnhost.errors import ContainerNotRunning, EngineRefused, EngineUnavailable, FlynnHostError
from flynnhost.interfaces import ExecSpec, IExecution, ILogReceiver

_KILLED_WITHIN = 5.0


@implementer(IExecution)
@define(eq=False)
class Execution:
    """An ``IExecution`` that the engine has begun.

    Its exit status is asked for when its output has ended, and again and again while it still runs:
    a command may close its output long before it ends.

    :param ask: has one of the ``EngineCalls`` done.
    :param in_thread: runs a function that asks nothing of the engine.
    :param line: goes both ways.
    :param process: its process; None if it can't be reached, or has ended already.
    :param grace: seconds from SIGHUP to SIGKILL.
    :param left: is called when nothing of it is left here.
    """

    log = Logger()

    _clock: IReactorTime
    _background: Background
    _ask: Callable[..., Deferred[Any]]
    _in_thread: Callable[..., Deferred[Any]]
    container_id: str
    exec_id: str
    _spec: ExecSpec
    _line: EngineLine
    _process: ExecProcess | None
    _receiver: ILogReceiver
    grace: float
    _left: Callable[[Execution], None]
    _input: EngineInput = field(init=False)
    _output: LogStream = field(init=False)
    _begun: bool = field(init=False, default=False)
    _closed: bool = field(init=False, default=False)
    _ending: bool = field(init=False, default=False)
    _connected: bool = field(init=False, default=True)
    _outcome: int | FlynnHostError | None = field(init=False, default=None)
    _wait_for_status: list[Deferred[int]] = field(init=False, factory=list)
    _wait_for_end: list[Deferred[None]] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        decoder = None if self._spec.tty else FrameDecoder()
        # A command that does not read all of its input leaves a connection that is not closed cleanly.
        ends = (ConnectionDone, ConnectionLost)
        self._input = EngineInput(self._line, self._clock)
        self._output = LogStream(self._connect, self, self._line.abort, decoder, ends)

    def begin(self) -> None:
        """Begin to pass on what it writes."""
        self._output.begin()

    # --- its input ---

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See ``IInput``."""
        self._input.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """See ``IInput``."""
        self._input.unregisterProducer()

    def write(self, data: bytes) -> None:
        """See ``IInput``."""
        if self._spec.stdin:
            self._input.write(data)

    def end(self) -> None:
        """See ``IInput``."""
        # Docker would end the output of a TTY as well.
        if self._spec.stdin and not self._spec.tty:
            self._input.end()

    # --- its output ---

    def pauseProducing(self) -> None:
        """See ``ILogStream``."""
        self._output.pauseProducing()

    def resumeProducing(self) -> None:
        """See ``ILogStream``."""
        self._output.resumeProducing()

    def output_received(self, stream: int, data: bytes) -> None:
        """See ``ILogReceiver``."""
        self._receiver.output_received(stream, data)

    def output_ended(self, error: Exception | None) -> None:
        """See ``ILogReceiver``."""
        self._receiver.output_ended(error)
        if not self._closed:
            self._background.run(self._learn_status(), "asking for the exit status of a command")

    # --- its process ---

    def resize(self, height: int, width: int) -> Deferred[None]:
        """See ``IExecution``."""
        return Deferred.fromCoroutine(self._resize(height, width))

    def signal(self, number: int) -> Deferred[None]:
        """See ``IExecution``."""
        return Deferred.fromCoroutine(self._signal(number))

    def exit_status(self) -> Deferred[int]:
        """See ``IExecution``."""
        waiting: Deferred[int] = Deferred()
        self._wait_for_status.append(waiting)
        if self._outcome is not None:
            self._settle(self._outcome)
        return waiting

    def close(self) -> None:
        """See ``IExecution``."""
        if self._closed:
            return
        self._closed = True
        self._output.stopProducing()
        if not self._begun:
            self._lost()  # nobody else will tell of it
        if not isinstance(self._outcome, int):
            self._ending = True
            if self._outcome is None:
                self._settle(EngineUnavailable("the command was closed before its end"))
            self._background.run(self._end_process(), "ending a command")
        else:
            self._free()

    def when_closed(self) -> Deferred[None]:
        """See ``IExecution``."""
        waiting: Deferred[None] = Deferred()
        self._wait_for_end.append(waiting)
        self._tell_ended()
        return waiting

    # --- what goes on ---

    def _connect(self, stream: Any) -> None:
        self._begun = True
        self._line.deliver(_BothWays(stream, self._lost))

    def _lost(self) -> None:
        self._connected = False
        self._input.lost()
        self._tell_ended()

    async def _resize(self, height: int, width: int) -> None:
        if self._outcome is not None:
            return
        try:
            await self._ask(EngineCalls.thd_exec_resize, self.exec_id, height, width)
        except EngineRefused as e:
            # There are many words for it, and nothing else that can be wrong.
            self.log.debug("A command has no TTY to resize any more: {reason}", reason=e.reason)

    async def _signal(self, number: int) -> None:
        if self._outcome is None and self._process is None and (await self._state()).running:
            raise EngineRefused("the command's process can't be reached from here")
        if self._process is None or not await self._in_thread(self._process.thd_signal, number):
            raise ContainerNotRunning(self.container_id)

    async def _state(self) -> ExecState:
        state: ExecState = await self._ask(EngineCalls.thd_exec_state, self.exec_id)
        return state

    async def _learn_status(self) -> None:
        waits = Backoff(self._clock, first=0.005, cap=2.0)
        try:
            while not (state := await self._state()).ended and not self._closed:
                await waits.wait()
        except FlynnHostError as e:
            state, reason = None, str(e)
        if self._closed:
            return
        if state is None or state.exit_code is None:
            # It may still run, so its process is kept to be ended.
            self._settle(EngineUnavailable(f"the exit status of a command is not known: {reason}"))
        else:
            self._settle(state.exit_code)
            self._free()

    async def _end_process(self) -> None:
        try:
            if self._process is not None:
                goes_on = not await self._kill(self._process)
            else:
                goes_on = (await self._state()).running
            if goes_on:
                self.log.warn(
                    "A command in container {container_id} goes on: its process can't be ended from here",
                    container_id=self.container_id,
                )
        except FlynnHostError as e:
            self.log.warn(
                "A command in container {container_id} may go on: {reason}",
                container_id=self.container_id,
                reason=str(e),
            )
        finally:
            self._ending = False
            self._free()

    async def _kill(self, process: ExecProcess) -> bool:
        """Returns whether it has ended."""
        await self._in_thread(process.thd_signal_session, signal.SIGHUP)
        await self._end_of(process, lambda: self.grace)
        # Also if it has ended: others may be left of its session.
        await self._in_thread(process.thd_signal_session, signal.SIGKILL)
        return await self._end_of(process, lambda: _KILLED_WITHIN)

    async def _end_of(self, process: ExecProcess, within: Callable[[], float]) -> bool:
        """Returns whether it came in time, which may become less meanwhile."""
        waits, since = Backoff(self._clock, first=0.01, cap=0.1), self._clock.seconds()
        while not process.ended and self._clock.seconds() < since + within():
            await waits.wait()
        return process.ended

    def _settle(self, outcome: int | FlynnHostError) -> None:
        self._outcome = outcome
        waiting, self._wait_for_status = self._wait_for_status, []
        for each in waiting:
            if isinstance(outcome, int):
                each.callback(outcome)
            else:
                each.errback(outcome)

    def _free(self) -> None:
        if self._process is not None:
            self._process.close()
        self._left(self)
        self._tell_ended()

    def _tell_ended(self) -> None:
        if self._connected or self._ending:
            return
        waiting, self._wait_for_end = self._wait_for_end, []
        for each in waiting:
            each.callback(None)


class _BothWays(Protocol):
    """Passes on what comes over the connection, and that it is gone."""

    def __init__(self, stream: LogStream, lost: Callable[[], None]) -> None:
        self._lost = lost
        self._stream = stream
        self.dataReceived = stream.dataReceived  # type: ignore[method-assign]

    def connectionMade(self) -> None:
        """There is a connection."""
        self._stream.makeConnection(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """There is no connection any more."""
        self._stream.connectionLost(reason)
        self._lost()
