"""An HTTP server in memory that a test plays, for clients on a ``MemoryReactorClock``."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectError, ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IReactorTime
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure


class _Transport(StringTransport):
    """The client's transport, which tells of its end like a real one: later."""

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__(lenient=True)
        self._clock = clock
        self._told = False
        self.protocol: Any = None
        self.aborted = False

    def loseConnection(self) -> None:
        super().loseConnection()
        self._clock.callLater(0, self.lost, ConnectionDone())

    def stopProducing(self) -> None:
        super().stopProducing()
        self.loseConnection()

    def abortConnection(self) -> None:
        self.aborted = True
        self._clock.callLater(0, self.lost, ConnectionAborted())

    def setTcpNoDelay(self, enabled: bool) -> None:
        """All is sent at once here."""

    def lost(self, reason: Exception) -> None:
        if not self._told:
            self._told = True
            self.protocol.connectionLost(Failure(reason))


@define(eq=False)
class PeerConnection:
    """A connection that a client has made, seen from the server."""

    _protocol: Any
    _transport: _Transport

    @property
    def closed(self) -> bool:
        """Whether the client has closed or cut the connection."""
        return bool(self._transport.disconnecting or self._transport.aborted)

    @property
    def aborted(self) -> bool:
        """Whether the client has cut the connection."""
        return self._transport.aborted

    @property
    def paused(self) -> bool:
        """Whether the client does not take more for now."""
        return bool(self._transport.producerState == "paused")

    def received(self) -> bytes:
        """What came since the last time."""
        data = bytes(self._transport.value())
        self._transport.clear()
        return data

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        self._protocol.dataReceived(data)

    def lose(self) -> None:
        """The connection breaks."""
        self._transport.lost(ConnectionLost())


@define(eq=False)
class MemoryPeer:
    """All servers that there are, whatever their addresses.

    :ivar attempts: where clients wanted to connect, in order.
    """

    _reactor: MemoryReactorClock
    attempts: list[tuple[str, int]] = field(factory=list)

    def accept(self) -> PeerConnection:
        """Take the oldest connection that waits."""
        host, port, factory = self._next()
        protocol: Any = factory.buildProtocol(IPv4Address("TCP", host, port))
        transport = _Transport(self._reactor)
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return PeerConnection(protocol, transport)

    def refuse(self) -> None:
        """Refuse the oldest connection that waits."""
        _, _, factory = self._next()
        factory.clientConnectionFailed(None, Failure(ConnectError(string="refused")))

    @property
    def waiting(self) -> int:
        """How many connections wait to be taken."""
        return len(self._reactor.tcpClients)

    def _next(self) -> tuple[str, int, Any]:
        host, port, factory, *_ = self._reactor.tcpClients.pop(0)
        self.attempts.append((host, port))
        return host, port, factory
