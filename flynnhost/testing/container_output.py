"""The output of containers that exist in memory only."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from attrs import define, field

from flynnhost.interfaces import ILogReceiver, LogQuery

Piece = tuple[int, bytes]


def last_lines(pieces: Sequence[Piece], count: int | None) -> Sequence[Piece]:
    """So many of the last pieces, each of which is a line; None for all."""
    if count is None:
        return pieces
    return pieces[-count:] if count else ()


@define(eq=False)
class FakeLogStream:
    """An ``ILogStream`` of what a container wrote and, if that was asked for, still writes."""

    _query: LogQuery
    _receiver: ILogReceiver
    paused: bool = False
    stopped: bool = False
    _begun: bool = False
    _over: bool = False
    _error: Exception | None = None
    _waiting: deque[Piece] = field(factory=deque)

    def begin(self) -> None:
        """Pass on what waits; nothing is passed on before."""
        self._begun = True
        self._flush()

    def written(self, piece: Piece) -> None:
        """The container wrote a line or a part of one."""
        stream, _ = piece
        if self.stopped:
            return
        if self._query.stdout if stream == 1 else self._query.stderr:
            self._waiting.append(piece)
            self._flush()

    def over(self, error: Exception | None = None) -> None:
        """Nothing more will be written."""
        self._over, self._error = True, error
        self._flush()

    def pauseProducing(self) -> None:
        """See ``ILogStream``."""
        self.paused = True

    def resumeProducing(self) -> None:
        """See ``ILogStream``."""
        self.paused = False
        self._flush()

    def stopProducing(self) -> None:
        """See ``ILogStream``."""
        self.stopped = True
        self._waiting.clear()

    def _flush(self) -> None:
        while self._waiting and self._flowing():
            self._receiver.output_received(*self._waiting.popleft())
        if self._over and self._flowing():
            self.stopped = True
            self._receiver.output_ended(self._error)

    def _flowing(self) -> bool:
        return self._begun and not self.paused and not self.stopped
