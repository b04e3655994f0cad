"""The body of an answer that goes on for long, read piece by piece."""

from __future__ import annotations

from collections import deque
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone

from flynnhost.client.errors import BrokenOff

_FULL = 512 * 1024
"""How many bytes may wait to be read before the connection is paused."""


@define(eq=False, slots=False)
class ByteStream(Protocol):
    """Takes the body of a response, no more of it than there is somebody to read.

    :param what: whose output it is, for errors.
    :param silence: seconds in which something must come, again and again; None if it may be silent.
    """

    _clock: IReactorTime
    _what: str
    _silence: float | None = None
    _pieces: deque[bytes] = field(init=False, factory=deque)
    _size: int = field(init=False, default=0)
    _paused: bool = field(init=False, default=False)
    _reader: Deferred[None] | None = field(init=False, default=None)
    _ended: bool = field(init=False, default=False)
    _error: BrokenOff | None = field(init=False, default=None)
    _timeout: IDelayedCall | None = field(init=False, default=None)

    async def read(self) -> bytes:
        """The next bytes; none at the end. Only one at a time may wait for them.

        :raises BrokenOff: when the connection broke before the end, or nothing came for too long.
        """
        while not (self._pieces or self._ended):
            self._reader = Deferred(self._forget_reader)
            await self._reader
        if self._pieces:
            return self._take()
        if self._error is not None:
            raise self._error
        return b""

    def close(self) -> None:
        """Read no more. May be called again, also after the end."""
        self._end(None)
        self._pieces.clear()
        if self.transport is not None:
            self.transport.loseConnection()

    def connectionMade(self) -> None:
        """The body begins."""
        if self._ended:
            self.close()
        elif self._silence is not None:
            self._timeout = self._clock.callLater(self._silence, self._silent)

    def dataReceived(self, data: bytes) -> None:
        """Some of it came."""
        if self._ended:
            return
        if self._timeout is not None and self._silence is not None:
            self._timeout.reset(self._silence)
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _FULL and not self._paused:
            self._paused = True
            self._producer.pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It is over, or broke off."""
        if reason.check(ResponseDone):
            self._end(None)
        else:
            self._end(BrokenOff(f"{self._what} broke off"))

    @property
    def _producer(self) -> Any:
        return self.transport

    def _take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            if not self._ended:
                self._producer.resumeProducing()
        return data

    def _silent(self) -> None:
        self._timeout = None
        if self._paused:
            # It is the reader who does not read.
            self._timeout = self._clock.callLater(self._silence or 0.0, self._silent)
            return
        self._end(BrokenOff(f"{self._what} broke off: nothing came for {self._silence:g} s"))
        if self.transport is not None:
            self.transport.loseConnection()

    def _end(self, error: BrokenOff | None) -> None:
        if self._ended:
            return
        self._ended = True
        self._error = error
        if self._timeout is not None and self._timeout.active():
            self._timeout.cancel()
        self._timeout = None
        self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)

    def _forget_reader(self, _: object) -> None:
        self._reader = None
