"""A host that speaks the attach protocol, played by a test."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from flynnhost.attach_frames import Frame, reading_client
from flynnhost.client.address import HostAddress

AGREED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: flynn-attach/0\r\n\r\n"


@define(eq=False, slots=False)
class Attached(Protocol):
    """A client that is attached, seen from the host.

    :ivar head: what it asked.
    :ivar frames: what it sent since.
    """

    answer: bytes
    head: bytes = field(init=False, default=b"")
    frames: list[Frame] = field(init=False, factory=list)
    lost: bool = field(init=False, default=False)
    _agreed: bool = field(init=False, default=False)
    _reader: Any = field(init=False, factory=reading_client)

    @property
    def link(self) -> Any:
        """The transport."""
        return self.transport

    def send(self, *frames: bytes) -> None:
        """Send these."""
        self.link.write(b"".join(frames))

    def end(self) -> None:
        """Close the connection."""
        self.link.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        if self._agreed:
            self.frames.extend(self._reader.feed(data))
            return
        self.head += data
        if b"\r\n\r\n" in self.head and self.head.endswith(b"}"):
            self._agreed = True
            self.link.write(self.answer)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True


class AttachServer(Factory):
    """Takes clients on loopback."""

    noisy = False

    def __init__(self, reactor: Any, answer: bytes = AGREED) -> None:
        self.clients: list[Attached] = []
        self._answer = answer
        self._port = reactor.listenTCP(0, self, interface="127.0.0.1")

    @property
    def address(self) -> HostAddress:
        """Where it is."""
        return HostAddress("127.0.0.1", self._port.getHost().port)

    def buildProtocol(self, _addr: Any) -> Attached:
        attached = Attached(self._answer)
        self.clients.append(attached)
        return attached

    async def close(self) -> None:
        """Close everything."""
        await self._port.stopListening()
        for client in self.clients:
            if not client.lost:
                client.link.abortConnection()
