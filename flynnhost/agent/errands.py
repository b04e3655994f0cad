"""Signals and sizes of terminals on their way to a process, one at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from flynnhost.background import Background
from flynnhost.errors import FlynnHostError

MAX_SIGNALS = 64
"""Signals that may wait; more are dropped."""

_HIGHEST_SIGNAL = 64


@define(eq=False)
class Errands:
    """Sends them in order when the process runs. One that fails is of no interest but to the log.

    :param whose: the process, for the log.
    """

    log = Logger()

    _background: Background
    _whose: str
    _send_signal: Callable[[int], Deferred[None]]
    _set_size: Callable[[int, int], Deferred[None]]
    _signals: deque[int] = field(init=False, factory=deque)
    _size: tuple[int, int] | None = field(init=False, default=None)
    _running: bool = field(init=False, default=False)
    _busy: bool = field(init=False, default=False)
    _dropped: bool = field(init=False, default=False)

    def signal(self, number: int) -> None:
        """Send a signal."""
        if 1 <= number <= _HIGHEST_SIGNAL and len(self._signals) < MAX_SIGNALS:
            self._signals.append(number)
            self._go()
        elif not self._dropped:
            # Not of each: who sends them by the thousand must not hold up all others.
            self._dropped = True
            self.log.debug("Signal {number} was not sent to {whose}", number=number, whose=self._whose)

    def resize(self, height: int, width: int) -> None:
        """Set the size of its terminal, unless either is 0."""
        if height and width:
            self._size = (height, width)
            self._go()

    def begin(self) -> None:
        """The process runs."""
        self._running = True
        self._go()

    def stop(self) -> None:
        """Send nothing more."""
        self._running = False
        self._signals.clear()
        self._size = None

    def _go(self) -> None:
        if self._running and not self._busy and (self._signals or self._size):
            self._busy = True
            self._background.run(self._run(), f"sending signals to {self._whose}")

    async def _run(self) -> None:
        try:
            while self._signals or self._size is not None:
                await self._next()
        finally:
            self._busy = False

    async def _next(self) -> None:
        try:
            if self._size is not None:
                size, self._size = self._size, None
                await self._set_size(*size)
            else:
                await self._send_signal(self._signals.popleft())
        except FlynnHostError as e:
            self.log.debug("Not sent to {whose}: {reason}", whose=self._whose, reason=str(e))
