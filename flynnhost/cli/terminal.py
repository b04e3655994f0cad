"""The terminal at which somebody sits."""

from __future__ import annotations

import atexit
import os
import termios
import tty
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

_PIECE = 1 << 16


def size_of(fd: int) -> tuple[int, int]:
    """Lines and columns of a terminal; (0, 0) of anything else."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return (0, 0)
    return (size.lines, size.columns)


def is_tty(fd: int) -> bool:
    """Whether this is a terminal."""
    try:
        return os.isatty(fd)
    except OSError:
        return False


@define(eq=False)
class RawMode:
    """A terminal that passes on each key as it is pressed, until ``restore``, which also comes when the
    program ends without.
    """

    _fd: int
    _before: list[Any] | None = field(init=False, default=None)

    def set(self) -> None:
        """Begin."""
        if self._before is None:
            self._before = termios.tcgetattr(self._fd)
            atexit.register(self.restore)
            tty.setraw(self._fd, termios.TCSADRAIN)

    def restore(self) -> None:
        """Let the terminal be as it was. May be called again."""
        before, self._before = self._before, None
        if before is not None:
            atexit.unregister(self.restore)
            try:
                termios.tcsetattr(self._fd, termios.TCSADRAIN, before)
            except termios.error:  # the terminal is gone
                return


@implementer(IPushProducer)
@define(eq=False)
class Input:
    """Reads a descriptor, which stays as it is: it may be shared with other programs.

    A push producer: it can be paused.

    :param received: is given what was read.
    :param ended: is called at the end.
    """

    _reactor: Any
    _fd: int
    _received: Callable[[bytes], None]
    _ended: Callable[[], None]
    _reading: bool = field(init=False, default=False)
    _over: bool = field(init=False, default=False)

    def start(self) -> None:
        """Begin to read."""
        self.resumeProducing()

    def stop(self) -> None:
        """Read no more. May be called again."""
        self.pauseProducing()
        self._over = True

    def pauseProducing(self) -> None:
        """Read nothing for now."""
        if self._reading:
            self._reading = False
            self._reactor.removeReader(self)

    def resumeProducing(self) -> None:
        """Go on."""
        if not (self._reading or self._over):
            self._reading = True
            self._reactor.addReader(self)

    def stopProducing(self) -> None:
        """Nobody takes it any more."""
        self.stop()

    # --- IReadDescriptor ----------------------------------------------------------

    def fileno(self) -> int:
        """What the reactor is to watch."""
        return self._fd

    def doRead(self) -> None:
        """There is something: reading that does not block."""
        try:
            data = os.read(self._fd, _PIECE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # a terminal that was closed
            data = b""
        if data:
            self._received(data)
        else:
            self.stop()
            self._ended()

    def connectionLost(self, _reason: object) -> None:
        """The other end is gone."""
        if self._reading:
            # There may be more to read all the same.
            while self._reading:
                self.doRead()

    def logPrefix(self) -> str:
        """How the log calls this."""
        return "stdin"


STDIN_FD, STDOUT_FD, STDERR_FD = 0, 1, 2
