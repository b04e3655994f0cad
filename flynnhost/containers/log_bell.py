"""Hearing that a container writes, without relying on what the engine passes on then."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from flynnhost.containers.entries import Entry
from flynnhost.containers.log_source import ISnapshot
from flynnhost.gate import Gate


@define(eq=False)
class Bell:
    """A transfer that follows a container from its end on. It rings when anything comes, and has ended when
    the container has.

    Docker may lose output when it follows, or hang on to a file that is not written any more. So this is
    only a hint when to look.
    """

    _clock: IReactorTime
    _following: ISnapshot
    ended: bool = field(init=False, default=False)
    _error: Failure | None = field(init=False, default=None)
    _rang: Gate = field(init=False, factory=Gate)

    def __attrs_post_init__(self) -> None:
        self._following.read().addCallbacks(self._came, self._broke)

    async def wait(self, seconds: float) -> bool:
        """Return when it rings, or after so many seconds; says whether it has.

        :raises FlynnHostError: when the engine broke it off.
        """
        try:
            await self._rang.wait().addTimeout(seconds, self._clock)
        except DeferredTimeout:
            return False
        if self._error is not None:
            self._error.raiseException()
        return True

    def close(self) -> None:
        """Free all it holds."""
        self._following.close()

    def _came(self, entries: list[Entry] | None) -> None:
        self.ended = entries is None
        self._rang.open()

    def _broke(self, failure: Failure) -> None:
        self._error = failure
        self._rang.open()


def listening(clock: IReactorTime, following: Deferred[ISnapshot]) -> Deferred[Bell]:
    """A bell of a transfer that has been asked for."""
    return following.addCallback(lambda snapshot: Bell(clock, snapshot))
