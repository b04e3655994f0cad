"""Runs commands that need a reactor: those that read and write at the same time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure

from flynnhost.cli.exit_codes import ended_by
from flynnhost.cli.failures import CommandFailed

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@define(eq=False)
class Signals:
    """What is done when this process gets a signal. What nobody handles ends the command, if it is to.

    :param end: ends the command.
    """

    _reactor: Any
    _end: Callable[[int], None]
    _handlers: dict[int, Callable[[int], None]] = field(init=False, factory=dict)
    _before: dict[int, Any] = field(init=False, factory=dict)

    def handle(self, number: int, handler: Callable[[int], None] | None) -> None:
        """Call this, on the reactor, for each such signal from now on; None for what was before."""
        if handler is None:
            self._handlers.pop(number, None)
        else:
            self._handlers[number] = handler
            self._install(number)

    def install(self) -> None:
        """Begin."""
        for number in _ENDING:
            self._install(number)

    def restore(self) -> None:
        """Let all be as it was before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _install(self, number: int) -> None:
        # Who started us may have us ignore some, as nohup does.
        if number not in self._before and signal.getsignal(number) is not signal.SIG_IGN:
            self._before[number] = signal.signal(number, self._came)

    def _came(self, number: int, _frame: object) -> None:
        self._reactor.callFromThread(self._handle, number)

    def _handle(self, number: int) -> None:
        handler = self._handlers.get(number)
        if handler is not None:
            handler(number)
        elif number in _ENDING:
            self._end(number)


Main = Callable[[Any, Signals], Coroutine[Deferred[Any], Any, int]]


def in_reactor(main: Main) -> int:
    """Run a command and give its exit code. A signal that it does not handle itself cancels it.

    :param main: the command, for which it is given the reactor and the signals.
    """
    from twisted.internet import reactor

    # Whatever goes wrong is told in one line by whoever called us.
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    outcome: list[Any] = []
    ended: list[int] = []
    running: list[Deferred[Any]] = []

    def end(number: int) -> None:
        ended.append(number)
        if running and not outcome:
            running[0].cancel()

    def over(result: Any) -> None:
        outcome.append(result)
        react.callWhenRunning(react.stop)

    def begin() -> None:
        work = Deferred.fromCoroutine(main(react, signals))
        running.append(work)
        work.addBoth(over)

    react: Any = reactor
    signals = Signals(react, end)
    signals.install()
    try:
        react.callWhenRunning(begin)
        react.run(installSignalHandlers=False)
    finally:
        signals.restore()
    return _code(outcome[0], ended)


def _code(outcome: Any, ended: list[int]) -> int:
    if not isinstance(outcome, Failure):
        return int(outcome)
    if ended and outcome.check(CancelledError):
        raise CommandFailed("", ended_by(ended[0]))
    outcome.raiseException()
    return 0
