"""Connects this process's own streams, or its terminal, with those of a job or of a command in one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import click
from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from flynnhost.cli.detach_keys import DetachKeys
from flynnhost.cli.exit_codes import ended_by
from flynnhost.cli.in_reactor import Signals
from flynnhost.cli.outlet import Outlet
from flynnhost.cli.terminal import STDERR_FD, STDIN_FD, STDOUT_FD, Input, RawMode, is_tty, size_of
from flynnhost.client.attach import STDERR, AttachStream, Exit, Output, Ready

_AGAIN_WITHIN = 1.0
"""Seconds in which a second Ctrl-C is one that does not want to wait."""

_PASSED_ON = (
    signal.SIGTERM,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


@frozen
class Ending:
    """How a session ended.

    :param status: the exit status of the process, if it has ended.
    :param detached: the person at the terminal has left it.
    :param stop: the same person wants the job to be stopped.
    :param signal: this process is to end because of this signal.
    """

    status: int | None = None
    detached: bool = False
    stop: bool = False
    signal: int = 0

    @property
    def code(self) -> int:
        """The exit code when the process has not ended."""
        return ended_by(self.signal) if self.signal else 0


@frozen
class Wishes:
    """How a session is to be.

    :param stdin: what comes to stdin is passed on.
    :param tty: the process has a terminal.
    :param what: what a person is at, for questions.
    :param can_stop: whether it can be stopped on demand.
    """

    stdin: bool
    tty: bool
    what: str = "the job"
    can_stop: bool = True

    @property
    def raw(self) -> bool:
        """Whether each key is passed on."""
        return self.tty and self.stdin and is_tty(STDIN_FD)

    def size(self) -> tuple[int, int]:
        """Lines and columns of the terminal that the process is to have."""
        return size_of(STDOUT_FD) if self.tty else (0, 0)


@define(eq=False)
class Session:
    """One attachment, from its begin to its end.

    :param on_begin: is called when it begins, before there is any output.
    """

    _reactor: Any
    _signals: Signals
    _wishes: Wishes
    _stream: AttachStream
    _on_begin: Callable[[], None] = field(default=lambda: None)
    _terminal: RawMode = field(init=False, factory=lambda: RawMode(STDIN_FD))
    _keys: DetachKeys = field(init=False, factory=DetachKeys)
    _input: Input = field(init=False)
    _interrupted: float | None = field(init=False, default=None)
    _asking: bool = field(init=False, default=False)
    _begun: bool = field(init=False, default=False)
    _ending: Ending | None = field(init=False, default=None)
    _leaving: Deferred[None] | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._input = Input(self._reactor, STDIN_FD, self._typed, self._input_ended)

    async def run(self) -> Ending:
        """Be at the process until it ends, or somebody leaves.

        :raises ClientError: when the attachment can't be had, or breaks.
        :raises BrokenPipeError: when nobody reads what it writes.
        """
        outlets = {False: Outlet(self._reactor, STDOUT_FD), True: Outlet(self._reactor, STDERR_FD)}
        try:
            status: int | None = None
            async for happening in self._stream:
                match happening:
                    case Ready(attached=True):
                        self.begin()
                    case Output(stream, data):
                        await outlets[stream == STDERR].write(data)
                    case Exit(code):
                        status = code
                if self._ending is not None:
                    break
            if self._leaving is not None:
                await self._leaving
            return self._ending or Ending(status=status)
        finally:
            self.end()
            for outlet in outlets.values():
                outlet.close()

    def begin(self) -> None:
        """Connect the terminal and the signals."""
        if self._begun:
            return
        self._begun = True
        self._on_begin()
        if self._wishes.raw:
            self._terminal.set()
        self._signals.handle(signal.SIGINT, self._interrupt)
        self._signals.handle(signal.SIGHUP, self._leave)  # the terminal is gone
        for number in _PASSED_ON:
            self._signals.handle(number, self._leave if self._wishes.raw else self._stream.signal)
        if self._wishes.tty:
            self._signals.handle(signal.SIGWINCH, self._resized)
            self._resized(signal.SIGWINCH)
        if self._wishes.stdin:
            self._stream.register_producer(self._input)
            self._input.start()

    def end(self) -> None:
        """Let the terminal be as it was. May be called again."""
        self._input.stop()
        self._terminal.restore()
        self._stream.close()
        for number in (signal.SIGINT, signal.SIGWINCH, signal.SIGHUP, *_PASSED_ON):
            self._signals.handle(number, None)

    # --- from the person ------------------------------------------------------------

    def _typed(self, data: bytes) -> None:
        if self._asking:
            self._answered(data)
            return
        if not self._wishes.raw:
            self._stream.write(data)
            return
        data, leave = self._keys.feed(data)
        self._stream.write(data)
        if leave:
            self._leave_as(Ending(detached=True))

    def _input_ended(self) -> None:
        self._stream.end_input()

    def _resized(self, _number: int) -> None:
        height, width = size_of(STDOUT_FD)
        if height and width:
            self._stream.resize(height, width)

    def _interrupt(self, number: int) -> None:
        """Ctrl-C, which a terminal in raw mode passes on as a key."""
        now: float = self._reactor.seconds()
        again = self._interrupted is not None and now - self._interrupted <= _AGAIN_WITHIN
        self._interrupted = now
        if not again:
            self._stream.signal(number)
        elif self._asking or not (is_tty(STDIN_FD) and is_tty(STDERR_FD)):
            self._leave_as(Ending(stop=self._wishes.can_stop, detached=True, signal=signal.SIGINT))
        else:
            self._ask()

    def _ask(self) -> None:
        self._asking = True
        stop = "[s]top it, " if self._wishes.can_stop else ""
        question = f"\nflynn-host: {self._wishes.what} goes on. {stop}[d]etach, or [c]ontinue? "
        click.echo(question, err=True, nl=False)
        self._input.start()

    def _answered(self, data: bytes) -> None:
        answer = data.strip().lower()[:1]
        self._asking = False
        if not self._wishes.stdin:
            self._input.pauseProducing()
        if answer == b"s" and self._wishes.can_stop:
            self._leave_as(Ending(stop=True, detached=True, signal=signal.SIGINT))
        elif answer == b"d":
            self._leave_as(Ending(detached=True))

    def _leave(self, number: int) -> None:
        self._leave_as(Ending(detached=True, signal=number))

    def _leave_as(self, ending: Ending) -> None:
        if self._ending is None:
            self._ending = ending
            self._leaving = Deferred.fromCoroutine(self._stream.leave(self._reactor))
