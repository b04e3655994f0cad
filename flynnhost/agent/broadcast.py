"""What one job writes, passed on to all who listen, each at its own pace."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from flynnhost.agent.spool import DISK_FAILED, Position, Spool
from flynnhost.agent.spool_files import Piece

SLICE_BYTES = 64 * 1024
"""How much a listener who was behind gets before others have their turn."""


class IListener(Protocol):
    """Somebody who hears what a job writes. May pause or leave in any of these calls."""

    def output_received(self, stream: int, data: bytes) -> None:
        """The job wrote something."""

    def output_over(self, error: str) -> None:
        """Nothing more will come: empty at the proper end, else why something may be missing."""


@define(eq=False)
class Listening:
    """One listener's place in a broadcast. It begins paused; what comes from then on is kept.

    :ivar live: whether it gets everything as it comes.
    """

    log = Logger()

    _broadcast: Broadcast
    _listener: IListener
    _clock: IReactorTime
    _block: int
    _index: int
    live: bool = field(init=False, default=False)
    _paused: bool = field(init=False, default=True)
    _gone: bool = field(init=False, default=False)
    _pumping: bool = field(init=False, default=False)
    _fetching: bool = field(init=False, default=False)
    _pieces: deque[Piece] = field(init=False, factory=deque)
    _again: IDelayedCall | None = field(init=False, default=None)

    def pauseProducing(self) -> None:
        """Pass nothing on until ``resumeProducing``. What comes is kept, within bounds."""
        if self._paused or self._gone:
            return
        self._paused = True
        if self.live:
            self.live = False
            self._move_to(self._broadcast.spool.end, first=True)

    def resumeProducing(self) -> None:
        """Go on."""
        if self._paused and not self._gone:
            self._paused = False
            self._pump()

    def leave(self) -> None:
        """Hear nothing more."""
        if not self._gone:
            self._go()
            self._broadcast.left(self)

    def pass_on(self, stream: int, data: bytes) -> None:
        """Something came that this listener is up to."""
        if not self._gone:
            self._listener.output_received(stream, data)

    def cut_off(self, block: int, reason: str) -> None:
        """Give up a listener that has not read a block."""
        if not self._gone and not self.live and self._block <= block:
            self._end(reason)

    def ended(self) -> None:
        """No more will come; who is behind gets the rest first."""
        if self.live and not self._gone:
            self._end(self._broadcast.error)

    def _end(self, reason: str) -> None:
        self._go()
        self._broadcast.left(self)
        self._listener.output_over(reason)

    def _go(self) -> None:
        self._gone = True
        self._pieces.clear()
        if self._again is not None and self._again.active():
            self._again.cancel()
        if not self.live:
            self._broadcast.spool.release(self._block)
        self.live = False

    def _pump(self) -> None:
        """Pass on some of what waits, and the rest later."""
        if self._pumping or self._again is not None:
            return
        self._pumping = True
        sent = 0
        try:
            while sent < SLICE_BYTES and self._flowing() and self._refilled():
                stream, data = self._pieces.popleft()
                sent += len(data)
                self._listener.output_received(stream, data)
        finally:
            self._pumping = False
        if sent >= SLICE_BYTES and self._flowing():
            self._again = self._clock.callLater(0, self._pump_again)

    def _pump_again(self) -> None:
        self._again = None
        if self._flowing():
            self._pump()

    def _flowing(self) -> bool:
        return not self._paused and not self._gone and not self.live

    def _refilled(self) -> bool:
        """Whether there is a piece to pass on now. If there is none at all, this listener is live."""
        spool = self._broadcast.spool
        while not self._pieces and not self._fetching and not self._gone:
            here = Position(self._block, self._index)
            if here == spool.end:
                self._caught_up()
                break
            pieces = spool.pieces_at(here)
            if pieces is None:
                self._fetch()
            else:
                self._pieces.extend(pieces)
                self._move_to(spool.after(self._block))
        return bool(self._pieces)

    def _fetch(self) -> None:
        """Have the block that this listener is in read; and pass over what it had of it already."""
        self._fetching = True
        passed = self._index
        last, fetched = self._broadcast.spool.fetch(self._block)

        def came(pieces: list[Piece]) -> None:
            self._fetching = False
            if not self._gone:
                self._pieces.extend(pieces[passed:])
                self._move_to(self._broadcast.spool.after(last))
                self._pump()

        def failed(failure: Failure) -> None:
            self._fetching = False
            if not self._gone:
                self._end(DISK_FAILED.format(error=failure.value))

        fetched.addCallbacks(came, failed).addErrback(self._broke)

    def _broke(self, failure: Failure) -> None:
        self.log.failure("While passing output on", failure)

    def _caught_up(self) -> None:
        self.live = True
        self._broadcast.spool.release(self._block)
        if self._broadcast.over:
            self.ended()

    def _move_to(self, position: Position, first: bool = False) -> None:
        spool = self._broadcast.spool
        spool.hold(position.block)
        if not first:
            spool.release(self._block)
        self._block, self._index = position.block, position.piece


@define(eq=False)
class Broadcast:
    """Passes pieces on to listeners as they come, and keeps them for those who are behind.

    :param make_spool: makes the place where they are kept, given who is told of what it loses.
    :param deserted: called when the last listener has left.
    :ivar over: whether nothing more will come.
    :ivar error: why something may be missing, if so.
    """

    _clock: IReactorTime
    _make_spool: Callable[[Callable[[int, str], None]], Spool]
    _deserted: Callable[[], None]
    spool: Spool = field(init=False)
    over: bool = field(init=False, default=False)
    error: str = field(init=False, default="")
    _listeners: dict[Listening, None] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self.spool = self._make_spool(self._lost)

    def __len__(self) -> int:
        return len(self._listeners)

    def join(self, listener: IListener) -> Listening:
        """Have somebody listen from now on, paused at first."""
        end = self.spool.end
        self.spool.hold(end.block)
        listening = Listening(self, listener, self._clock, end.block, end.piece)
        self._listeners[listening] = None
        return listening

    def left(self, listening: Listening) -> None:
        """A listener is gone."""
        del self._listeners[listening]
        if not self._listeners:
            self.spool.close()
            self._deserted()

    def receive(self, stream: int, data: bytes) -> None:
        """The job wrote something."""
        live = [each for each in self._listeners if each.live]
        if len(live) < len(self._listeners):
            self.spool.append((stream, data))
        for each in live:
            each.pass_on(stream, data)

    def finish(self, error: str) -> None:
        """Nothing more will come.

        :param error: why something may be missing; empty at the proper end.
        """
        if not self.over:
            self.over, self.error = True, error
            for each in list(self._listeners):
                each.ended()

    def _lost(self, block: int, reason: str) -> None:
        for each in list(self._listeners):
            each.cut_off(block, reason)
