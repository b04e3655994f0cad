"""The way to the standard input of a process in a container."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from flynnhost.containers.hijack import EngineLine
from flynnhost.interfaces import IInput

FLUSH_WITHIN = 2.0
"""Seconds that the engine has to take what was written before the connection was closed."""


@implementer(IPushProducer)
@define(eq=False)
class _Pausable:
    """A producer that is paused for a connection, but is not stopped with it."""

    _producer: Any
    paused: bool = False

    def pauseProducing(self) -> None:
        self.paused = True
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        self._producer.resumeProducing()

    def stopProducing(self) -> None:
        if self.paused:
            self.resumeProducing()


@implementer(IInput)
@define(eq=False)
class EngineInput:
    """An ``IInput`` that goes over a connection to the engine.

    Who gives it the connection calls ``lost`` when that is gone.
    """

    _line: EngineLine
    _clock: IReactorTime
    _closing: IDelayedCall | None = field(init=False, default=None)
    _ended: bool = field(init=False, default=False)
    _gone: bool = field(init=False, default=False)
    _producer: _Pausable | None = field(init=False, default=None)
    _waiting: list[Deferred[None]] = field(init=False, factory=list)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See ``IInput``.

        :raises ValueError: if it is no push producer.
        """
        if not streaming:
            raise ValueError("only push producers are taken here")
        if not self._gone and not self._ended:
            self._producer = _Pausable(producer)
            self._line.transport.registerProducer(self._producer, True)

    def unregisterProducer(self) -> None:
        """See ``IInput``."""
        producer, self._producer = self._producer, None
        if producer is not None and not self._gone:
            self._line.transport.unregisterProducer()

    def write(self, data: bytes) -> None:
        """See ``IInput``."""
        if not self._gone and not self._ended:
            self._line.transport.write(data)

    def end(self) -> None:
        """See ``IInput``."""
        if self._gone or self._ended:
            return
        self._ended = True
        producer = self._producer
        # A transport with a producer that it has paused asks for more instead of ending.
        self.unregisterProducer()
        if producer is not None:
            producer.stopProducing()
        self._line.transport.loseWriteConnection()

    def close(self) -> None:
        """See ``IInput``."""
        if self._gone or self._closing is not None:
            return
        self._ended = True
        producer = self._producer
        self.unregisterProducer()
        if producer is not None:
            producer.stopProducing()
        self._closing = self._clock.callLater(FLUSH_WITHIN, self._line.abort)
        self._line.transport.loseConnection()

    def when_closed(self) -> Deferred[None]:
        """See ``IInput``."""
        waiting: Deferred[None] = Deferred()
        if self._gone:
            waiting.callback(None)
        else:
            self._waiting.append(waiting)
        return waiting

    def lost(self) -> None:
        """The connection is gone."""
        if self._gone:
            return
        self._gone = True
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        self._line.abort()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)


class InputOnly(Protocol):
    """The protocol of a connection that is there for input: it waits for the end."""

    def __init__(self, way: EngineInput) -> None:
        self._way = way

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """There is no connection any more."""
        del reason  # whatever it is, nothing more can be written
        self._way.lost()
