"""Work that goes on while nobody waits for it, yet is never lost from sight."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from flynnhost.errors import FlynnHostError

T = TypeVar("T")


@define(eq=False)
class Background:
    """Coroutines that run by themselves. What fails is logged; what still runs can be ended.

    :param name: whose work it is, for the log.
    """

    log = Logger()

    _name: str
    _running: dict[Deferred[None], None] = field(init=False, factory=dict)
    _cancelling: int = field(init=False, default=0)

    def run(self, work: Coroutine[Deferred[Any], Any, Any], what: str) -> Deferred[None]:
        """Begin some work. The Deferred fires with None when it is over, whatever came of it.

        While ``cancel`` ends what runs, nothing is begun.

        :param what: the work in words, to be read after "while", for the log.
        """
        done: Deferred[None] = Deferred()
        if self._cancelling:
            work.close()
            done.callback(None)
            return done
        running = Deferred.fromCoroutine(work)

        def ended(result: object) -> None:
            self._running.pop(running, None)
            if isinstance(result, Failure) and not result.check(CancelledError):
                self.log.failure("{name} failed while {what}", result, name=self._name, what=what)
            if not done.called:
                done.callback(None)

        self._running[running] = None
        running.addBoth(ended)
        return done

    def cancel(self) -> Deferred[None]:
        """End all that runs. Fires when nothing does any more; then work can be begun again."""
        running = list(self._running)
        self._cancelling += 1
        for work in running:
            work.cancel()

        def over(_: object) -> None:
            self._cancelling -= 1

        return DeferredList([_over(work) for work in running]).addCallback(over)


def _over(work: Deferred[Any]) -> Deferred[None]:
    over: Deferred[None] = Deferred()

    def ended(result: object) -> object:
        over.callback(None)
        return result

    work.addBoth(ended)
    return over


def shielded(work: Deferred[T]) -> Deferred[T]:
    """A Deferred that fires as the work does, and whose cancelling leaves the work alone.

    What then becomes of the work is logged if it fails.
    """
    answer: Deferred[T] = Deferred()

    def finished(result: T | Failure) -> None:
        if not answer.called:
            answer.callback(result)
        elif isinstance(result, Failure) and result.check(FlynnHostError):
            Background.log.warn(
                "Work failed that nobody waited for any more: {reason}", reason=str(result.value)
            )
        elif isinstance(result, Failure) and not result.check(CancelledError):
            Background.log.failure("Work failed that nobody waited for any more", result)

    work.addBoth(finished)
    return answer


STEP = 500
"""Things of some microseconds each that are done before others have their turn."""


@define(eq=False)
class Steps:
    """Work that may be long, done in steps between which others have their turn.

    :param size: how much is done in one step.
    """

    _clock: IReactorTime
    _size: int = STEP
    _done: int = field(init=False, default=0)

    def slices(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """The same things, as many at a time as are done in one step."""
        for start in range(0, len(items), self._size):
            yield items[start : start + self._size]

    async def did(self, count: int = 1) -> None:
        """So much was done; returns when more can be."""
        self._done += count
        if self._done >= self._size:
            self._done = 0
            await deferLater(self._clock, 0)


@define(eq=False)
class Backoff:
    """Ever longer waits between tries, up to a cap, each with some chance in it.

    :param first: the first wait in seconds.
    :param cap: the longest wait in seconds.
    :param chance: gives numbers from 0 to below 1.
    """

    _clock: IReactorTime
    first: float = 0.5
    cap: float = 30.0
    _chance: Callable[[], float] = random.random
    _tries: int = field(init=False, default=0)

    def delay(self) -> float:
        """The next wait in seconds: between half and all of the doubled last one."""
        longest = min(self.cap, self.first * 2.0**self._tries)
        self._tries = min(self._tries + 1, 32)
        return longest * (0.5 + self._chance() / 2)

    def wait(self) -> Deferred[None]:
        """Fires after the next wait."""
        return deferLater(self._clock, self.delay(), lambda: None)


@define(eq=False)
class Periodic:
    """Something done again and again, the pause counted from the end of the last time.

    A failure is logged, and the next time comes all the same. It is never done twice at once.

    :param interval: the pause in seconds.
    :param work: makes the coroutine that does it once.
    :param what: the work in words, to be read after "while", for the log.
    """

    _clock: IReactorTime
    _interval: float
    _work: Callable[[], Coroutine[Deferred[Any], Any, Any]]
    _what: str
    _background: Background
    _again: bool = field(init=False, default=False)
    _busy: bool = field(init=False, default=False)
    _stopped: bool = field(init=False, default=True)
    _timer: IDelayedCall | None = field(init=False, default=None)

    def start(self, now: bool = True) -> None:
        """Begin, with the first time now or after the first pause. Does nothing if it was begun."""
        if not self._stopped:
            return
        self._stopped = False
        if now:
            self.soon()
        elif not self._busy:
            self._rest(self._interval)

    def soon(self) -> None:
        """Do it now, or once more right after the time that is going on."""
        if self._stopped:
            return
        if self._busy:
            self._again = True
            return
        self._drop_timer()
        self._busy = True
        self._background.run(self._once(), self._what).addCallback(self._done)

    def stop(self) -> None:
        """Begin no more; what is going on is ended with the background it runs in."""
        self._stopped = True
        self._again = False
        self._drop_timer()

    async def _once(self) -> None:
        await self._work()

    def _done(self, _: None) -> None:
        self._busy = False
        again, self._again = self._again, False
        if not self._stopped:
            self._rest(0 if again else self._interval)

    def _rest(self, seconds: float) -> None:
        self._timer = self._clock.callLater(seconds, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.soon()

    def _drop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
