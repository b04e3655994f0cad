"""A response that is written as fast as its client takes it, and no faster."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from twisted.web.server import Request
from zope.interface import implementer

from flynnhost.gate import Gate
from flynnhost.http.connection import cut

#: How much is written before others get their turn.
_SLICE_BYTES = 64 * 1024
_SLICE_PIECES = 128

#: Seconds that a client has to take what is left when a response is ended from our side.
FLUSH_WITHIN = 10

#: The same when the host stops, which it does within five seconds.
CLOSE_WITHIN = 3


class IOpen(Protocol):
    """A response under way."""

    def when_over(self) -> Deferred[None]:
        """A Deferred of your own that fires when the response is over, however it came to be."""

    def close(self) -> None:
        """End in an orderly way, and soon."""


@implementer(IPushProducer)
@define(eq=False)
class Outflow:
    """Writes pieces to a request under back-pressure, a slice at a time.

    First comes everything of a source, which is asked for a piece only when it can be
    written; then what was sent in the meantime, in order.

    :param stall_limit: seconds without any progress after which the client is given up.
    """

    log = Logger()

    _request: Request
    _clock: IReactorTime
    _stall_limit: float | None = None
    _source: Iterator[bytes] | None = field(init=False, default=None)
    queued_bytes: int = field(init=False, default=0)
    _queue: deque[bytes] = field(init=False, factory=deque)
    _paused: bool = field(init=False, default=False)
    _ending: bool = field(init=False, default=False)
    _stopped: bool = field(init=False, default=False)
    _over: Gate = field(init=False, factory=Gate)
    _next_slice: IDelayedCall | None = field(init=False, default=None)
    _deadline: IDelayedCall | None = field(init=False, default=None)
    _stalled: IDelayedCall | None = field(init=False, default=None)

    def start(self, source: Iterator[bytes] | None = None) -> None:
        """Send the headers, and begin.

        :param source: what to write first.
        """
        self._source = source
        self._request.notifyFinish().addBoth(lambda _: self._is_over())
        self._request.registerProducer(self, True)
        self._request.write(b"")
        self._pump()

    def when_over(self) -> Deferred[None]:
        """See ``IOpen.when_over``."""
        return self._over.wait()

    @property
    def busy(self) -> bool:
        """Whether something waits to be written, or the client does not take more for now."""
        return self._paused or self._source is not None or bool(self._queue)

    @property
    def queued(self) -> int:
        """How many pieces wait."""
        return len(self._queue)

    def send(self, piece: bytes) -> None:
        """Write this, after all that waits."""
        if self._stopped or self._ending:
            return
        if self._source is None and not self._queue and not self._paused:
            self._request.write(piece)
            return
        self._queue.append(piece)
        self.queued_bytes += len(piece)

    def end(self, within: float | None = None) -> None:
        """Finish the response after all that waits.

        :param within: seconds after which the connection is cut if the client did not take it.
        """
        self._ending = True
        if within is not None and not self._stopped:
            _cancel(self._deadline)
            self._deadline = self._clock.callLater(within, self.abort)
        self._pump()

    def cut_short(self, last: bytes) -> None:
        """Drop all that waits, and finish with this, within ``FLUSH_WITHIN`` seconds."""
        if self._stopped or self._ending:
            return
        self._drop()
        self._request.write(last)
        self.end(within=FLUSH_WITHIN)

    def close(self) -> None:
        """See ``IOpen.close``."""
        self.end(within=CLOSE_WITHIN)

    def abort(self) -> None:
        """Cut the connection, for the client to see that something is missing."""
        if not self._stopped:
            self._stop()
            cut(self._request)

    def pauseProducing(self) -> None:
        """The client does not take more for now."""
        self._paused = True
        if self._stall_limit is not None and self._stalled is None:
            self._stalled = self._clock.callLater(self._stall_limit, self.abort)

    def resumeProducing(self) -> None:
        """The client took all there was."""
        self._paused = False
        _cancel(self._stalled)
        self._stalled = None
        self._pump()

    def stopProducing(self) -> None:
        """The client is gone, of which the request is told next."""
        self._stop()

    def _pump(self) -> None:
        if self._stopped or self._paused or self._next_slice is not None:
            return
        try:
            more = self._write_slice()
        except Exception:
            self.log.failure("While writing a response to {path}", path=self._request.path.decode("latin-1"))
            self.abort()
            return
        if self._stopped or self._paused:
            return
        if more:
            self._next_slice = self._clock.callLater(0, self._sliced)
        elif self._ending:
            self._finish()

    def _sliced(self) -> None:
        self._next_slice = None
        self._pump()

    def _write_slice(self) -> bool:
        """Write a slice, and tell whether there is more."""
        pieces: list[bytes] = []
        size = 0
        while size < _SLICE_BYTES and len(pieces) < _SLICE_PIECES:
            piece = self._take()
            if piece is None:
                break
            pieces.append(piece)
            size += len(piece)
        if pieces:
            self._request.write(b"".join(pieces))
        return self._source is not None or bool(self._queue)

    def _take(self) -> bytes | None:
        if self._source is not None:
            piece = next(self._source, None)
            if piece is not None:
                return piece
            self._source = None
        if not self._queue:
            return None
        piece = self._queue.popleft()
        self.queued_bytes -= len(piece)
        return piece

    def _drop(self) -> None:
        self._source = None
        self._queue.clear()
        self.queued_bytes = 0

    def _finish(self) -> None:
        self._request.unregisterProducer()
        self._request.finish()

    def _stop(self) -> None:
        """Write nothing any more."""
        self._stopped = True
        self._drop()
        for call in (self._next_slice, self._deadline, self._stalled):
            _cancel(call)
        self._next_slice = self._deadline = self._stalled = None

    def _is_over(self) -> None:
        # Only now may anyone go on: before the request knows, they would try to finish it.
        self._stop()
        self._over.open()


def _cancel(call: IDelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()
