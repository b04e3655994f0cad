"""Writes to stdout and stderr without ever holding up the reactor."""

from __future__ import annotations

import os
import stat
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred


@define(eq=False)
class Outlet:
    """A descriptor to write to.

    Pipes and terminals are opened anew, not to block: the descriptor that we were given is often shared with
    other programs, which would be surprised. What can't be opened anew is written to as it is.
    """

    _reactor: Any
    _fd: int
    _own: int | None = field(init=False)
    _writable: Deferred[None] | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._own = _opened_anew(self._fd)

    async def write(self, data: bytes) -> None:
        """Write all of it. Who cancels this may leave a part of it unwritten.

        :raises BrokenPipeError: when nobody reads any more.
        """
        view = memoryview(data)
        while view:
            try:
                written = os.write(self._fd if self._own is None else self._own, view)
            except BlockingIOError:
                await self._wait()
            else:
                view = view[written:]

    def close(self) -> None:
        """Give back what was opened."""
        if self._own is not None:
            self._reactor.removeWriter(self)
            os.close(self._own)
            self._own = None

    # --- IWriteDescriptor ---------------------------------------------------------

    def fileno(self) -> int:
        """What the reactor is to watch."""
        return -1 if self._own is None else self._own

    def doWrite(self) -> None:
        """There is room again."""
        self._go_on()

    def connectionLost(self, _reason: object) -> None:
        """The other end is gone, which the next write tells."""
        self._go_on()

    def logPrefix(self) -> str:
        """How the log calls this."""
        return "outlet"

    def _wait(self) -> Deferred[None]:
        self._writable = Deferred(lambda _: self._reactor.removeWriter(self))
        self._reactor.addWriter(self)
        return self._writable

    def _go_on(self) -> None:
        self._reactor.removeWriter(self)
        writable, self._writable = self._writable, None
        if writable is not None and not writable.called:
            writable.callback(None)


def _opened_anew(fd: int) -> int | None:
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    return None
