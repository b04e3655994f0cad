"""The clock of one process among several, which can be stopped as by SIGSTOP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


@implementer(IDelayedCall)
@define(eq=False)
class _Call:
    """Something that a process is to do later."""

    _clock: ProcessClock
    _work: Callable[[], object]
    _inner: IDelayedCall | None = field(init=False, default=None)
    _time: float = field(init=False, default=0.0)
    _called: bool = field(init=False, default=False)
    _cancelled: bool = field(init=False, default=False)

    def set(self, delay: float) -> None:
        """Have it done after so many seconds."""
        self._time = self._clock.seconds() + delay
        self._inner = self._clock.inner.callLater(delay, self.due)

    def due(self) -> None:
        """Do it, unless the process stands still."""
        if not self._clock.stands_still(self):
            self._called = True
            self._work()

    def getTime(self) -> float:
        """See ``IDelayedCall``."""
        return self._time

    def cancel(self) -> None:
        """See ``IDelayedCall``."""
        self._check()
        self._cancelled = True
        self._drop()

    def delay(self, secondsLater: float) -> None:
        """See ``IDelayedCall``."""
        self._check()
        self._drop()
        self.set(self._time + secondsLater - self._clock.seconds())

    def reset(self, secondsFromNow: float) -> None:
        """See ``IDelayedCall``."""
        self._check()
        self._drop()
        self.set(secondsFromNow)

    def active(self) -> bool:
        """See ``IDelayedCall``."""
        return not (self._called or self._cancelled)

    def _check(self) -> None:
        if self._called:
            raise AlreadyCalled
        if self._cancelled:
            raise AlreadyCancelled

    def _drop(self) -> None:
        self._clock.late.pop(self, None)
        if self._inner is not None and self._inner.active():
            self._inner.cancel()


@implementer(IReactorTime)
@define(eq=False)
class ProcessClock:
    """Goes as another clock does, but while the process stands still nothing is done: what was due
    meanwhile is done when it goes on.

    :ivar inner: the other clock.
    :ivar late: what was due while the process stood still, in order.
    """

    inner: IReactorTime
    late: dict[_Call, None] = field(init=False, factory=dict)
    _stopped: bool = field(init=False, default=False)

    def seconds(self) -> float:
        """See ``IReactorTime``. It goes on while the process stands still."""
        return self.inner.seconds()

    def callLater(
        self,
        delay: float,
        callable: Callable[..., Any],  # noqa: A002
        *args: object,
        **kw: object,
    ) -> _Call:
        """See ``IReactorTime``."""
        call = _Call(self, lambda: callable(*args, **kw))
        call.set(delay)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """See ``IReactorTime``; those of all processes."""
        return list(self.inner.getDelayedCalls())

    def stop(self) -> None:
        """The process stands still from now on."""
        self._stopped = True

    def go_on(self) -> None:
        """It does no longer."""
        self._stopped = False
        while self.late and not self._stopped:
            call = next(iter(self.late))
            del self.late[call]
            call.due()

    def stands_still(self, call: _Call) -> bool:
        """Whether something that is due must wait; it is done when the process goes on."""
        if self._stopped:
            self.late[call] = None
        return self._stopped
