"""What processes that exist in memory only write from now on."""

from __future__ import annotations

from collections import deque

from attrs import define, field

from flynnhost.interfaces import ILogReceiver
from flynnhost.testing.container_output import Piece


@define(eq=False)
class FakeLiveStream:
    """An ``ILogStream`` of what is written while it is there. It can't tell a loss from the end."""

    _receiver: ILogReceiver
    paused: bool = False
    stopped: bool = False
    _begun: bool = False
    _over: bool = False
    _waiting: deque[Piece] = field(factory=deque)

    def begin(self) -> None:
        """Pass on what waits; nothing is passed on before."""
        self._begun = True
        self._flush()

    def written(self, piece: Piece) -> None:
        """Something was written."""
        if not self.stopped:
            self._waiting.append(piece)
            self._flush()

    def over(self) -> None:
        """Nothing more will be written."""
        self._over = True
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
            self._receiver.output_ended(None)

    def _flowing(self) -> bool:
        return self._begun and not self.paused and not self.stopped
