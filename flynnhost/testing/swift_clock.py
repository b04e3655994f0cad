"""A clock that tests turn, for thousands of timed calls."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from attrs import define, field
from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


@implementer(IReactorTime)
@define(eq=False)
class SwiftClock:
    """Does what ``twisted.internet.task.Clock`` does, in time that does not grow with the number of calls
    that wait. Each call is made at its very time.
    """

    _now: float = field(init=False, default=0.0)
    _calls: list[tuple[float, int, DelayedCall]] = field(init=False, factory=list)
    _numbers: count[int] = field(init=False, factory=count)

    def seconds(self) -> float:
        """See ``IReactorTime``."""
        return self._now

    def callLater(
        self,
        delay: float,
        callable: Callable[..., Any],  # noqa: A002  # as the interface has it
        *args: object,
        **kwargs: object,
    ) -> IDelayedCall:
        """See ``IReactorTime``."""
        call = DelayedCall(self._now + delay, callable, args, kwargs, lambda _: None, self._put, self.seconds)
        self._put(call)
        return call

    def getDelayedCalls(self) -> Sequence[IDelayedCall]:
        """See ``IReactorTime``."""
        return list({id(call): call for _, _, call in self._calls if call.active()}.values())

    def advance(self, seconds: float) -> None:
        """Let time pass, and make all calls that are due."""
        until = self._now + seconds
        while self._calls and self._calls[0][0] <= until:
            at, _, call = heapq.heappop(self._calls)
            if not call.active():
                continue
            if call.getTime() > at:  # it was put off
                self._put(call)
                continue
            self._now = max(self._now, at)
            call.called = 1
            call.func(*call.args, **call.kw)
        self._now = until

    def _put(self, call: DelayedCall) -> None:
        heapq.heappush(self._calls, (call.getTime(), next(self._numbers), call))
