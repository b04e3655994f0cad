"""Looking at what may hang, such as a disk, for many who ask."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from attrs import define, field, frozen
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


@frozen(eq=False)
class _Waiting(Generic[A]):
    """Somebody who has asked, and until when they wait."""

    at: A
    timer: IDelayedCall


@define(eq=False)
class Looks(Generic[A, T]):
    """Looks once at a time, in a thread of its own, for all who ask the same meanwhile.

    A look that hangs keeps one thread and nobody: they are told what was seen before.

    :param look: looks; called in the thread.
    :param begin: runs it there.
    """

    log = Logger()

    _reactor: LooksReactor
    _look: Callable[[A], T]
    _begin: Callable[[Callable[[], None]], None] = in_a_thread
    # What was seen last, of what, and when.
    _seen: T | None = field(init=False, default=None)
    _seen_of: A | None = field(init=False, default=None)
    _seen_at: float = field(init=False, default=float("-inf"))
    _waiting: dict[Deferred[T | None], _Waiting[A]] = field(init=False, factory=dict)
    _looking: bool = field(init=False, default=False)

    def now(self, at: A) -> Deferred[T | None]:
        """Fires within a second with what is seen, or was last; None if nothing ever was. Never fails.

        :param at: what to look at.
        """
        if self._seen_of == at and self._reactor.seconds() - self._seen_at < FRESH:
            return succeed(self._seen)
        answer: Deferred[T | None] = Deferred(self._forget)
        self._waiting[answer] = _Waiting(at, self._reactor.callLater(WITHIN, self._tell, answer))
        self._look_again()
        return answer

    def _look_again(self) -> None:
        """Look at what is waited for, unless a look goes on."""
        for waiting in self._waiting.values():
            if not self._looking:
                self._looking = True
                self._begin(partial(self._thd_look, waiting.at))
            return

    def _forget(self, answer: Deferred[T | None]) -> None:
        waiting = self._waiting.pop(answer, None)
        if waiting is not None and waiting.timer.active():
            waiting.timer.cancel()

    def _tell(self, answer: Deferred[T | None]) -> None:
        self._forget(answer)
        answer.callback(self._seen)

    def _thd_look(self, at: A) -> None:
        try:
            seen: T | Failure = self._look(at)
        except Exception:
            seen = Failure()
        self._reactor.callFromThread(self._looked, at, seen)

    def _looked(self, at: A, seen: T | Failure) -> None:
        self._looking = False
        if isinstance(seen, Failure):
            self.log.failure("While looking at the machine", seen)
        else:
            self._seen, self._seen_of, self._seen_at = seen, at, self._reactor.seconds()
        for answer, waiting in list(self._waiting.items()):
            if waiting.at == at:
                self._tell(answer)
        self._look_again()
