"""Connections between hosts and leaders in memory, which can be slow, stall, break and go unnoticed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from flynnhost.errors import FlynnHostError, NotReady
from flynnhost.interfaces import ISessionConnector, ISessionTransport, ISessionUser

Accept = Callable[[ISessionTransport], ISessionUser]
"""Takes a connection."""


@define(eq=False)
class End:
    """One end of a connection, as an ``ISessionTransport``.

    :ivar window: how many messages may wait before the end is full.
    :ivar stalled: nothing that was sent arrives, until it is released.
    """

    _clock: IReactorTime
    _delay: Callable[[], float]
    window: int = 64
    user: ISessionUser | None = field(init=False, default=None)
    other: End = field(init=False)
    stalled: bool = field(init=False, default=False)
    _gone: bool = field(init=False, default=False)
    _told: bool = field(init=False, default=False)
    _closing: bool = field(init=False, default=False)
    _waiting: deque[bytes] = field(init=False, factory=deque)
    _was_full: bool = field(init=False, default=False)
    _delivering: bool = field(init=False, default=False)

    # --- ISessionTransport ----------------------------------------------------

    @property
    def full(self) -> bool:
        """See ``ISessionTransport.full``."""
        self._was_full = self._was_full or len(self._waiting) >= self.window
        return len(self._waiting) >= self.window

    def send(self, message: bytes) -> None:
        """See ``ISessionTransport.send``."""
        if not self._closing and not self._gone:
            self._waiting.append(message)
            self._deliver_soon()

    def close(self) -> None:
        """See ``ISessionTransport.close``."""
        if not self._closing:
            self._closing = True
            self._clock.callLater(0, self._tell, "closed here")
            self._deliver_soon()

    # --- what tests do --------------------------------------------------------

    def cut(self) -> None:
        """What is on its way from here is lost, and this end notices."""
        self._gone = True
        self._waiting.clear()
        self._clock.callLater(0, self._tell, "the connection broke")

    def release(self) -> None:
        """End a stall."""
        self.stalled = False
        self._deliver_soon()

    # --- on the way -----------------------------------------------------------

    def _deliver_soon(self) -> None:
        if not self._delivering and not self.stalled:
            self._delivering = True
            self._clock.callLater(self._delay(), self._deliver)

    def _deliver(self) -> None:
        """Hand over the first of what waits: never two in one turn, and never out of order."""
        self._delivering = False
        if self.stalled or self._gone:
            return
        other = self.other
        if self._waiting:
            message = self._waiting.popleft()
            if other.user is not None and not other._told:
                other.user.received(message)
            if self._was_full and len(self._waiting) < self.window and self.user is not None:
                self._was_full = False
                if not self._told:
                    self.user.resumed()
            self._deliver_soon()
        elif self._closing:
            self._gone = True
            other._gone = True
            other._tell("closed by the other side")

    def _tell(self, reason: str) -> None:
        if not self._told:
            self._told = True
            if self.user is not None:
                self.user.lost(reason)


@define(eq=False)
class Connection:
    """A host's connection to a leader."""

    host: End
    leader: End

    def cut(self) -> None:
        """Break it, for both to see."""
        self.host.cut()
        self.leader.cut()

    def stall(self) -> None:
        """Let nothing arrive, for nobody to see."""
        self.host.stalled = self.leader.stalled = True

    def release(self) -> None:
        """End a stall."""
        self.host.release()
        self.leader.release()


@define(eq=False)
class Network:
    """Everything that connects hosts and leaders.

    :param delay: gives the seconds that each message takes.
    :ivar leaders: who takes connections, by address.
    :ivar connections: all that were ever made, with the name of the one who made it.
    """

    _clock: IReactorTime
    _delay: Callable[[], float] = lambda: 0.0
    window: int = 64
    leaders: dict[str, Accept] = field(factory=dict)
    connections: list[tuple[str, Connection]] = field(factory=list)
    unreachable: set[str] = field(factory=set)

    def connector(self, name: str) -> ISessionConnector:
        """What a host connects with."""
        return _Connector(self, name)

    def of(self, name: str) -> list[Connection]:
        """All connections that a host has made."""
        return [connection for by, connection in self.connections if by == name]

    def connect(self, name: str, addr: str, begin: Accept) -> Deferred[ISessionTransport]:
        """See ``ISessionConnector.connect``."""

        def connected() -> ISessionTransport:
            accept = self.leaders.get(addr)
            if accept is None or name in self.unreachable:
                raise NotReady(f"nobody answers at {addr}")
            host = End(self._clock, self._delay, self.window)
            leader = End(self._clock, self._delay, self.window)
            host.other, leader.other = leader, host
            try:
                leader.user = accept(leader)
            except FlynnHostError as e:
                raise NotReady(str(e)) from e
            host.user = begin(host)
            self.connections.append((name, Connection(host, leader)))
            return host

        if addr not in self.leaders:
            return fail(NotReady(f"nobody answers at {addr}"))
        return deferLater(self._clock, self._delay(), connected)


@define(eq=False)
class _Connector:
    _network: Network
    _name: str

    def connect(self, addr: str, begin: Accept) -> Deferred[ISessionTransport]:
        return self._network.connect(self._name, addr, begin)
