"""Beginning commands, with an engine that a test plays."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from flynnhost.containers.calls import EngineCalls
from flynnhost.containers.execs import EngineExecs
from flynnhost.containers.state import ExecState
from flynnhost.errors import EngineUnavailable
from flynnhost.interfaces import ExecSpec
from flynnhost.testing.container_rig import OutputRecorder


@define(eq=False)
class Line:
    """A connection to the engine, also as the ``EngineLines`` that open it."""

    aborted: bool = False

    async def open(self, *_: Any) -> Any:
        return self

    def abort(self) -> None:
        self.aborted = True


@define(eq=False)
class Process:
    """A process that ends when it gets a signal."""

    ended: bool = False
    forgotten: bool = False
    signals: list[int] = field(factory=list)

    def thd_signal_session(self, number: int) -> None:
        self.signals.append(number)
        self.ended = True

    def close(self) -> None:
        self.forgotten = True


def test_terminal_that_can_not_be_sized() -> None:
    """A command that runs, but can't be handed over as it was asked for, is ended; nothing is left of it."""
    clock, line, process = Clock(), Line(), Process()
    answers = {
        EngineCalls.thd_exec_create: "e1",
        EngineCalls.thd_exec_state: ExecState(running=True, pid=7, exit_code=None),
        EngineCalls.thd_exec_process: process,
    }

    def ask(call: Any, *_: Any) -> Deferred[Any]:
        return succeed(answers[call]) if call in answers else fail(EngineUnavailable("busy"))

    def in_thread(function: Any, *args: Any) -> Deferred[Any]:
        return succeed(function(*args))

    lines: Any = line
    reactor: Any = clock
    execs = EngineExecs(reactor, lines, ask, in_thread)
    failures: list[Any] = []
    execs.begin("c1", ExecSpec(("sh",), tty=True, height=24, width=80), OutputRecorder()).addErrback(
        failures.append
    )
    clock.pump([0.1] * 20)
    assert [failure.type for failure in failures] == [EngineUnavailable]
    assert process.signals
    assert (line.aborted, process.forgotten) == (True, True)
    closed = execs.close(4.0)
    assert closed.called
