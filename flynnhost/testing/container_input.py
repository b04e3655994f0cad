"""Input of processes that exist in memory only."""

from __future__ import annotations

from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from flynnhost.interfaces import IInput


class ReadsInput(Protocol):
    """A process at the other end of an ``IInput``."""

    def input_received(self, data: bytes) -> None:
        """Something was written."""

    def input_ended(self) -> None:
        """Nothing more will be written."""


@implementer(IInput)
@define(eq=False)
class FakeInput:
    """An ``IInput`` whose bytes reach the process when the clock is next advanced, if only by 0.

    :param reader: the process.
    :ivar closed: whether it was closed, by whomever.
    :ivar ended: whether ``end`` was called.
    """

    _clock: IReactorTime
    _reader: ReadsInput
    closed: bool = field(init=False, default=False)
    ended: bool = field(init=False, default=False)
    _stalled: bool = field(init=False, default=False)
    _producer: Any = field(init=False, default=None)
    _waiting: list[Deferred[None]] = field(init=False, factory=list)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See ``IInput``."""
        assert streaming, "only push producers are taken"  # noqa: S101 - this is for tests
        assert self._producer is None, "there is a producer already"  # noqa: S101 - this is for tests
        self._producer = producer
        if self._stalled and not self.closed:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """See ``IInput``."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """See ``IInput``."""
        if not self.closed and not self.ended:
            self._clock.callLater(0, self._reader.input_received, data)

    def end(self) -> None:
        """See ``IInput``."""
        if not self.closed and not self.ended:
            self.ended = True
            self._clock.callLater(0, self._reader.input_ended)

    def close(self) -> None:
        """See ``IInput``."""
        if self.closed:
            return
        if not self.ended:
            self._clock.callLater(0, self._reader.input_ended)
        self.lost()

    def when_closed(self) -> Deferred[None]:
        """See ``IInput``."""
        waiting: Deferred[None] = Deferred()
        if self.closed:
            waiting.callback(None)
        else:
            self._waiting.append(waiting)
        return waiting

    # --- what a test does ---

    def stall(self) -> None:
        """The process takes no more: the producer is paused."""
        self._stalled = True
        if self._producer is not None:
            self._producer.pauseProducing()

    def go_on(self) -> None:
        """The process takes more again."""
        stalled, self._stalled = self._stalled, False
        if stalled and self._producer is not None:
            self._producer.resumeProducing()

    def lost(self) -> None:
        """The connection is gone."""
        if self.closed:
            return
        self.closed = True
        self.go_on()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)
