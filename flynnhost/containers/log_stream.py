"""The output of one container on its way from the engine to a receiver."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import cast

from attrs import define, field
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from flynnhost.docker_frames import ENGINE_ERROR, STDOUT, BadFrame, FrameDecoder
from flynnhost.errors import EngineRefused, EngineUnavailable
from flynnhost.interfaces import ILogReceiver


@define(eq=False)
class LogStream(Protocol):
    """An ``ILogStream`` of a connection that is there for the output.

    What was received in one go is kept while the receiver wants a pause; more is left to
    the engine.

    :param connect: makes this the protocol that gets what comes.
    :param abort: breaks the connection off.
    :param decoder: takes the stream apart; None if it is not framed, as that of a TTY.
    :param proper_ends: with which errors a transfer ends that is complete.
    """

    log = Logger()

    _connect: Callable[[IProtocol], None]
    _receiver: ILogReceiver
    _abort: Callable[[], None]
    _decoder: FrameDecoder | None
    _proper_ends: Sequence[type[Exception]] = (ConnectionDone,)
    _pieces: deque[tuple[int, bytes]] = field(init=False, factory=deque)
    _paused: bool = field(init=False, default=False)
    _finished: bool = field(init=False, default=False)
    _end: tuple[Exception | None] | None = field(init=False, default=None)
    _flushing: bool = field(init=False, default=False)

    def begin(self) -> None:
        """Begin to pass on what comes."""
        if self._finished:
            return
        self._connect(self)
        if self._paused:
            # Taking over has set the transport going.
            self._producer().pauseProducing()

    def pauseProducing(self) -> None:
        """See ``ILogStream``."""
        self._paused = True
        if self.transport is not None:
            self._producer().pauseProducing()

    def resumeProducing(self) -> None:
        """See ``ILogStream``."""
        self._paused = False
        self._flush()
        if not self._paused and self.transport is not None:
            self._producer().resumeProducing()

    def stopProducing(self) -> None:
        """See ``ILogStream``."""
        if not self._finished:
            self._finish()

    def dataReceived(self, data: bytes) -> None:
        """Some of it came."""
        if self._finished or self._end:
            return
        try:
            self._pieces.extend(_joined(self._decoder.feed(data)) if self._decoder else [(STDOUT, data)])
        except BadFrame as e:
            self._end = (EngineRefused(f"the engine's answer makes no sense: {e}"),)
        self._flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nothing more will come."""
        if self._finished:
            return
        if self._end is None:
            self._end = (self._how_it_ended(reason),)
        self._flush()

    def _how_it_ended(self, reason: Failure) -> Exception | None:
        proper = reason.check(*self._proper_ends)
        if proper and (self._decoder is None or self._decoder.between_frames):
            return None
        return EngineUnavailable("the output broke off")

    def _flush(self) -> None:
        if self._flushing:
            return
        self._flushing = True
        try:
            while self._pieces and not self._paused and not self._finished:
                self._deliver(*self._pieces.popleft())
            if self._end and not self._paused and not self._finished:
                self._finish()
                self._receiver.output_ended(*self._end)
        except Exception:
            self.log.failure("A receiver of a container's output failed")
            self.stopProducing()
        finally:
            self._flushing = False

    def _deliver(self, stream: int, piece: bytes) -> None:
        if stream == ENGINE_ERROR:
            self._pieces.clear()
            self._end = (EngineRefused(piece.decode(errors="replace").strip()),)
        else:
            self._receiver.output_received(stream, piece)

    def _finish(self) -> None:
        self._finished = True
        self._pieces.clear()
        self._abort()

    def _producer(self) -> IPushProducer:
        return cast(IPushProducer, self.transport)


def _joined(pieces: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """The same with neighbours of one stream put together: each line has a frame of its own."""
    for stream, group in groupby(pieces, itemgetter(0)):
        yield stream, b"".join(data for _, data in group)
