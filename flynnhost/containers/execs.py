"""Beginning commands in running containers."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from flynnhost.background import Background, Backoff
from flynnhost.containers import translate
from flynnhost.containers.calls import EngineCalls
from flynnhost.containers.execution import Execution
from flynnhost.containers.hijack import EngineLine, EngineLines
from flynnhost.containers.state import ExecState
from flynnhost.containers.translate import Refusal
from flynnhost.docker_frames import BadFrame, FrameDecoder
from flynnhost.errors import EngineUnavailable, FlynnHostError
from flynnhost.interfaces import ExecSpec, IExecution, ILogReceiver

_LONGEST_EXPLANATION = 65_536

# A TTY's input ends with Docker's "detach keys"; these are as unlikely to be typed as any can be.
_NO_DETACH_KEYS = ",".join(["ctrl-^"] * 16)


@define(eq=False)
class EngineExecs:
    """The commands that were begun in containers of one engine.

    :param ask: has one of the ``EngineCalls`` done.
    :param in_thread: runs a function that asks nothing of the engine.
    :param begin_within: seconds that a command may take to begin once the engine has agreed.
    :param grace: seconds from SIGHUP to SIGKILL for a command that is closed early.
    """

    log = Logger()

    _reactor: IReactorTime
    _lines: EngineLines
    _ask: Callable[..., Deferred[Any]]
    _in_thread: Callable[..., Deferred[Any]]
    _begin_within: float = 60.0
    _grace: float = 5.0
    _background: Background = field(init=False, factory=lambda: Background("exec"))
    _beginning: dict[Deferred[IExecution], Deferred[Execution]] = field(init=False, factory=dict)
    _open: set[Execution] = field(init=False, factory=set)
    _closed: bool = field(init=False, default=False)
    _idle: Deferred[None] | None = field(init=False, default=None)

    def begin(self, container_id: str, spec: ExecSpec, receiver: ILogReceiver) -> Deferred[IExecution]:
        """See ``IContainers.exec``."""
        answer: Deferred[IExecution] = Deferred()

        def begun(result: Execution | Failure) -> None:
            del self._beginning[answer]
            self._check_idle()
            if not answer.called:
                answer.callback(result)
            elif isinstance(result, Execution):
                result.close()
            elif not result.check(FlynnHostError):
                self.log.failure("A command that nobody waited for did not begin", result)

        # Who waits no more must not stop this: then nobody would know what to end.
        work = Deferred.fromCoroutine(self._begin(container_id, spec, receiver))
        self._beginning[answer] = work
        work.addBoth(begun)
        return answer

    def close(self, within: float) -> Deferred[None]:
        """End all commands, with less grace, and begin no more. Fires when they have ended, or then."""
        self._closed = True
        for answer in list(self._beginning):
            if not answer.called:
                answer.errback(_closing())
        for execution in list(self._open):
            execution.grace = min(execution.grace, within / 4)
            execution.close()
        self._idle = Deferred()
        idle = self._idle.addTimeout(within, self._reactor, lambda _result, _timeout: None)
        self._check_idle()
        return idle

    def _check_idle(self) -> None:
        if self._idle is not None and not self._beginning and not self._open and not self._idle.called:
            self._idle.callback(None)

    def _left(self, execution: Execution) -> None:
        self._open.discard(execution)
        self._check_idle()

    async def _begin(self, container_id: str, spec: ExecSpec, receiver: ILogReceiver) -> Execution:
        exec_id = await self._ask(EngineCalls.thd_exec_create, container_id, _body(spec))
        start = json.dumps({"Detach": False, "Tty": spec.tty}).encode()
        line = await self._lines.open(f"/exec/{exec_id}/start", translate.killing(container_id), start)
        try:
            state = await self._begun(exec_id)
            if not state.pid:
                raise await self._refusal(line, container_id, spec.tty)
            process = None
            if not state.ended:
                process = await self._ask(EngineCalls.thd_exec_process, container_id, exec_id, state.pid)
        except BaseException:
            line.abort()
            raise
        execution = Execution(
            self._reactor,
            self._background,
            self._ask,
            self._in_thread,
            container_id,
            exec_id,
            spec,
            line,
            process,
            receiver,
            self._grace,
            self._left,
        )
        self._open.add(execution)
        try:
            if spec.tty and spec.height and spec.width:
                await execution.resize(spec.height, spec.width)
        except BaseException:
            execution.close()
            raise
        # Not before the caller has it.
        self._reactor.callLater(0, execution.begin)
        return execution

    async def _begun(self, exec_id: str) -> ExecState:
        """The state of a command that has a process, had one or will have none."""
        waits = Backoff(self._reactor, first=0.01, cap=0.25)
        deadline = self._reactor.seconds() + self._begin_within
        while True:
            state: ExecState = await self._ask(EngineCalls.thd_exec_state, exec_id)
            if state.pid or state.ended:
                return state
            if self._reactor.seconds() > deadline:
                raise EngineUnavailable(f"the command did not begin in {self._begin_within:g} s")
            await waits.wait()

    async def _refusal(self, line: EngineLine, container_id: str, tty: bool) -> FlynnHostError:
        """Why a command could not be run: the engine says so where its output would be."""
        words = _Words()
        line.deliver(words)
        await words.complete.addTimeout(self._begin_within, self._reactor, lambda _result, _timeout: None)
        refusal = Refusal(500, words.text(tty) or "the command can't be run")
        return translate.understood(refusal, translate.killing(container_id))


class _Words(Protocol):
    """Collects what the engine says."""

    def __init__(self) -> None:
        self._data = b""
        self.complete: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Some of it came."""
        self._data = (self._data + data)[:_LONGEST_EXPLANATION]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """That is all."""
        del reason  # what came is all that there is
        if not self.complete.called:
            self.complete.callback(None)

    def text(self, tty: bool) -> str:
        """What was said."""
        data = self._data
        if not tty:
            with suppress(BadFrame):  # then it is said as it is
                data = b"".join(piece for _, piece in FrameDecoder().feed(data))
        return data.decode(errors="replace").strip()


def _body(spec: ExecSpec) -> dict[str, Any]:
    body: dict[str, Any] = {
        "AttachStdin": spec.stdin,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": spec.tty,
        "Cmd": list(spec.cmd),
        "DetachKeys": _NO_DETACH_KEYS,
    }
    optional = {
        "Env": [f"{name}={value}" for name, value in spec.env.items()],
        "User": spec.user,
        "WorkingDir": spec.working_dir,
    }
    body.update((key, value) for key, value in optional.items() if value)
    return body


def _closing() -> EngineUnavailable:
    return EngineUnavailable("the connection is closed for good")
