"""Connections that go on with something other than HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import alsoProvides

from flynnhost.errors import InvalidField
from flynnhost.http.errors import answer_failure


class IUpgraded(Protocol):
    """What a connection goes on with."""

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""

    def connection_lost(self, reason: Failure) -> None:
        """There is no connection any more."""


class IHalfClosed(IUpgraded, Protocol):
    """The same for what knows that each direction of a connection can end by itself."""

    def input_ended(self) -> None:
        """The other side sends nothing more."""

    def output_ended(self) -> None:
        """All that was written is on its way, and our direction is closed."""


class UpgradeResource(Resource):
    """Takes a request's connection over. All that is refused is refused in JSON.

    :param begin: takes it over, or raises what to answer.
    """

    isLeaf = True

    def __init__(self, begin: Callable[[Request], None]) -> None:
        super().__init__()
        self._begin = begin

    def render(self, request: Request) -> Any:
        """Answer a request."""
        try:
            self._begin(request)
        except Exception:
            return answer_failure(request, Failure())
        return NOT_DONE_YET


def check_upgrade(request: Request, protocol: bytes) -> None:
    """Refuse a request that does not ask for its connection to go on with a protocol.

    :raises InvalidField: if so.
    """
    if request.clientproto != b"HTTP/1.1":
        raise InvalidField("Upgrade", "needs HTTP/1.1")
    for header, wanted in ((b"upgrade", protocol), (b"connection", b"upgrade")):
        words = b",".join(request.requestHeaders.getRawHeaders(header, [])).split(b",")
        if wanted.lower() not in {word.strip().lower() for word in words}:
            raise InvalidField(header.decode().title(), f"must be {wanted.decode()}")


def take_over(request: Request, protocol: IUpgraded) -> tuple[Any, bytes]:
    """Have the connection of a request tell the protocol all that comes from now on.

    :return: its transport, with no producer, and what came after the request already.
    """
    channel: Any = request.channel
    transport = channel.transport
    early: list[bytes] = []
    channel.dataReceived = early.append
    # The connection is no longer one of HTTP, whatever was to become of that after the answer.
    channel.persistent = True
    channel.requestDone(request)  # hands on what the channel has read too much
    channel.setTimeout(None)
    channel.setRawMode()
    channel.rawDataReceived = channel.dataReceived = protocol.data_received
    channel.connectionLost = protocol.connection_lost
    # The channel held back what it reads while it could not write.
    transport.unregisterProducer()
    return transport, b"".join(early)


def allow_half_closed(transport: Any, protocol: IHalfClosed) -> None:
    """Have the protocol hear of the end of each direction by itself."""
    told = transport.protocol
    told.readConnectionLost = protocol.input_ended
    told.writeConnectionLost = protocol.output_ended
    alsoProvides(told, IHalfCloseableProtocol)
