"""Looking at what may hang, such as a disk, for many who ask."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

A = TypeVar("A")
T = TypeVar("T")

FRESH = 1.0
"""Seconds for which what was seen is told again."""

WITHIN = 1.0
"""Seconds after which those who ask are told what was seen last."""


class LooksReactor(IReactorTime, IReactorFromThreads):
    """What looking in a thread needs of a reactor."""


def in_a_thread(work: Callable[[], None]) -> None:
    """Run something in a thread that keeps no process from ending."""
    threading.Thread(target=work, name="flynn-host look", daemon=True).start()


@define(eq=False)
class Looks(Generic[A, T]):
    """Looks once at a time, in a thread of its own, for all who ask meanwhile.

    A look that hangs keeps one thread and nobody: they are told what was seen before.

    :param look: looks; called in the thread.
    :param begin: runs it there.
    """

    log = Logger()

    _reactor: LooksReactor
    _look: Callable[[A], T]
    _begin: Callable[[Callable[[], None]], None] = in_a_thread
    _seen: T | None = field(init=False, default=None)
    _at: float | None = field(init=False, default=None)
    _waiting: dict[Deferred[T | None], IDelayedCall] = field(init=False, factory=dict)
    _looking: bool = field(init=False, default=False)

    def now(self, at: A) -> Deferred[T | None]:
        """Fires within a second with what is seen, or was last; None if nothing ever was. Never fails.

        :param at: what to look at.
        """
        if self._at is not None and self._reactor.seconds() - self._at < FRESH:
            return succeed(self._seen)
        answer: Deferred[T | None] = Deferred(self._forget)
        self._waiting[answer] = self._reactor.callLater(WITHIN, self._tell, answer)
        if not self._looking:
            self._looking = True
            self._begin(lambda: self._thd_look(at))
        return answer

    def _forget(self, answer: Deferred[T | None]) -> None:
        timer = self._waiting.pop(answer, None)
        if timer is not None and timer.active():
            timer.cancel()

    def _tell(self, answer: Deferred[T | None]) -> None:
        self._forget(answer)
        answer.callback(self._seen)

    def _thd_look(self, at: A) -> None:
        try:
            seen: T | Failure = self._look(at)
        except Exception:
            seen = Failure()
        self._reactor.callFromThread(self._looked, seen)

    def _looked(self, seen: T | Failure) -> None:
        self._looking = False
        if isinstance(seen, Failure):
            self.log.failure("While looking at the machine", seen)
        else:
            self._seen, self._at = seen, self._reactor.seconds()
        for answer in list(self._waiting):
            self._tell(answer)
