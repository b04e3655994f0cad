"""Commands in containers that exist in memory only."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from flynnhost.errors import ContainerNotRunning, EngineUnavailable
from flynnhost.interfaces import ExecSpec, IExecution, ILogReceiver
from flynnhost.testing.container_input import FakeInput
from flynnhost.testing.container_live import FakeLiveStream
from flynnhost.testing.container_output import Piece
from flynnhost.testing.container_process import Program

_GRACE = 10.0


@implementer(IExecution)
@define(eq=False)
class FakeExecution:
    """A command in a container in memory, which does what its program says.

    :ivar running: whether its process is there.
    :ivar input: what it has read.
    :ivar eof: whether it has read the end of its input.
    :ivar signals: those it got.
    :ivar size: lines and columns of its TTY.
    """

    _clock: IReactorTime
    container_id: str
    spec: ExecSpec
    program: Program
    _receiver: ILogReceiver
    running: bool = field(init=False, default=True)
    exit_code: int = field(init=False, default=0)
    input: bytes = field(init=False, default=b"")
    eof: bool = field(init=False, default=False)
    signals: list[int] = field(init=False, factory=list)
    size: tuple[int, int] = field(init=False)
    _stdin: FakeInput = field(init=False)
    _output: FakeLiveStream = field(init=False)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _closed: bool = field(init=False, default=False)
    _passed_on: bool = field(init=False, default=False)
    _lost: EngineUnavailable | None = field(init=False, default=None)
    _waiting: list[Deferred[int]] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        self.size = (self.spec.height, self.spec.width)
        self._stdin = FakeInput(self._clock, self)
        self._output = FakeLiveStream(self)

    def begin(self) -> None:
        """The process runs; what it writes is passed on when the clock is next advanced."""
        self._clock.callLater(0, self._output.begin)
        for piece in self.program.output:
            self.wrote(piece)
        if (self.program.reads_input and not self.spec.stdin) or self.program.exits_after == 0:
            self.exited(self.program.exit_code)
        elif self.program.exits_after is not None:
            self._timer = self._clock.callLater(self.program.exits_after, self.exited, self.program.exit_code)

    # --- IExecution ---

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See ``IInput``."""
        self._stdin.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """See ``IInput``."""
        self._stdin.unregisterProducer()

    def write(self, data: bytes) -> None:
        """See ``IInput``."""
        if self.spec.stdin:
            self._stdin.write(data)

    def end(self) -> None:
        """See ``IInput``."""
        if self.spec.stdin and not self.spec.tty:
            self._stdin.end()

    def when_closed(self) -> Deferred[None]:
        """See ``IExecution``."""
        return self._stdin.when_closed()

    def pauseProducing(self) -> None:
        """See ``ILogStream``."""
        self._output.pauseProducing()

    def resumeProducing(self) -> None:
        """See ``ILogStream``."""
        self._output.resumeProducing()

    def close(self) -> None:
        """See ``IExecution``."""
        if self._closed:
            return
        self._closed = True
        self._output.stopProducing()
        if not self._passed_on:
            self._tell_waiting(EngineUnavailable("the connection was closed"))
        if not self.running:
            self._stdin.lost()
            return
        self.signals.append(1)
        if 1 in self.program.on_signal:
            self._clock.callLater(0, self.exited, self.program.on_signal[1])
        else:
            self._clock.callLater(_GRACE, self.exited, 137)

    def resize(self, height: int, width: int) -> Deferred[None]:
        """See ``IExecution``."""
        if self.running:
            self.size = (height, width)
        done: Deferred[None] = Deferred()
        self._clock.callLater(0, done.callback, None)
        return done

    def signal(self, number: int) -> Deferred[None]:
        """See ``IExecution``."""
        done: Deferred[None] = Deferred()
        if not self.running:
            self._clock.callLater(0, done.errback, ContainerNotRunning(self.container_id))
            return done
        self.signals.append(number)
        if number in self.program.on_signal:
            self._clock.callLater(0, self.exited, self.program.on_signal[number])
        self._clock.callLater(0, done.callback, None)
        return done

    def exit_status(self) -> Deferred[int]:
        """See ``IExecution``."""
        waiting: Deferred[int] = Deferred()
        self._waiting.append(waiting)
        if self._passed_on:
            self._tell_waiting(self._lost)
        elif self._closed:
            self._tell_waiting(EngineUnavailable("the connection was closed"))
        return waiting

    # --- what a test does ---

    def wrote(self, piece: Piece) -> None:
        """Its process wrote something."""
        self._output.written((1, piece[1]) if self.spec.tty else piece)

    def exited(self, code: int = 0) -> None:
        """Its process ended."""
        if not self.running:
            return
        self.running, self.exit_code = False, code
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._stdin.lost()
        self._output.over()

    def cut(self, error: EngineUnavailable) -> None:
        """The connection is gone; the process goes on, but nobody will know how it ends."""
        if self.running:
            self._lost = error
            self._stdin.lost()
            self._output.over()

    # --- the ends of its streams ---

    def input_received(self, data: bytes) -> None:
        """See ``ReadsInput``."""
        if self.running:
            self.input += data
            if self.program.reads_input:
                self.wrote((1, data))

    def input_ended(self) -> None:
        """See ``ReadsInput``."""
        if self.running and not self.spec.tty and not self.eof:
            self.eof = True
            if self.program.reads_input:
                self.exited(self.program.exit_code)

    def output_received(self, stream: int, data: bytes) -> None:
        """See ``ILogReceiver``."""
        self._receiver.output_received(stream, data)

    def output_ended(self, error: Exception | None) -> None:
        """See ``ILogReceiver``."""
        self._passed_on = True
        self._receiver.output_ended(error)
        self._tell_waiting(self._lost)

    def _tell_waiting(self, error: Exception | None) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if error is not None:
                each.errback(error)
            else:
                each.callback(self.exit_code)
