"""What waits until the leader takes it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from flynnhost import messages
from flynnhost.interfaces import ISessionTransport
from flynnhost.messages import FromHost

MAX_QUEUED = 20_000
MAX_QUEUED_BYTES = 32 * 1024 * 1024
"""How far the leader may be behind before the session is given up, and begun anew."""


@define(eq=False)
class Outgoing:
    """A host's messages to its leader, in order, as many as the leader takes.

    :param behind: called when the leader is too far behind.
    """

    _clock: IReactorTime
    _transport: ISessionTransport
    _behind: Callable[[], None]
    _long: Iterator[bytes] | None = field(init=False, default=None)
    _next_piece: IDelayedCall | None = field(init=False, default=None)
    _queue: deque[bytes] = field(init=False, factory=deque)
    _queued_bytes: int = field(init=False, default=0)
    _stopped: bool = field(init=False, default=False)

    def say(self, message: FromHost) -> None:
        """Send a message after all that waits."""
        if self._stopped:
            return
        data = messages.encode(message)
        self._queue.append(data)
        self._queued_bytes += len(data)
        self.pump()
        if len(self._queue) > MAX_QUEUED or self._queued_bytes > MAX_QUEUED_BYTES:
            self._behind()

    def say_long(self, pieces: Iterator[bytes]) -> None:
        """Send something long before all that waits: a piece in a turn of the reactor, each made
        when the leader takes it. Only one at a time.
        """
        self._long = pieces
        self.pump()

    def pump(self) -> None:
        """Send as much of what waits as the leader takes."""
        if self._next_piece is not None or self._stopped:
            return
        if self._long is not None:
            self._send_piece(self._long)
            return
        while self._queue and not self._transport.full:
            data = self._queue.popleft()
            self._queued_bytes -= len(data)
            self._transport.send(data)

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True
        self._long = None
        self._queue.clear()
        if self._next_piece is not None:
            self._next_piece.cancel()
            self._next_piece = None

    def _send_piece(self, pieces: Iterator[bytes]) -> None:
        if self._transport.full:
            return
        piece = next(pieces, None)
        if piece is None:
            self._long = None
        else:
            self._transport.send(piece)
        self._next_piece = self._clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._next_piece = None
        self.pump()
