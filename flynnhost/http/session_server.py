"""Where hosts connect to their leader: ``GET /cluster/session``, a WebSocket."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from werkzeug.exceptions import MethodNotAllowed
from wsproto import ConnectionType
from wsproto.events import AcceptConnection
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from flynnhost.errors import InvalidField
from flynnhost.http.errors import answer_failure
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.session_socket import SessionSocket
from flynnhost.interfaces import IClusterHosts

SESSION_PATH = b"/cluster/session"


class SessionResource(Resource):
    """Turns a request into a session with this leader. All that is refused is refused in JSON."""

    isLeaf = True

    def __init__(self, clock: IReactorTime, hosts: IClusterHosts, streams: OpenStreams) -> None:
        super().__init__()
        self._clock = clock
        self._hosts = hosts
        self._streams = streams

    def render(self, request: Request) -> Any:
        """Answer a request."""
        try:
            self._begin(request)
        except Exception:
            return answer_failure(request, Failure())
        return NOT_DONE_YET

    def _begin(self, request: Request) -> None:
        if request.method != b"GET":
            raise MethodNotAllowed(["GET"])
        self._streams.check()
        handshake = H11Handshake(ConnectionType.SERVER)
        headers = [
            (name, value) for name, values in request.requestHeaders.getAllRawHeaders() for value in values
        ]
        try:
            handshake.initiate_upgrade_connection(headers, request.path)
        except RemoteProtocolError as e:
            raise InvalidField("Upgrade", f"must be a WebSocket handshake: {e}") from e
        socket = SessionSocket(self._clock)
        socket.user = self._hosts.open_session(socket)
        accepted = handshake.send(AcceptConnection())
        if handshake.connection is None:
            raise InvalidField("Upgrade", "must be a WebSocket handshake")
        self._streams.add(socket)
        transport = _take_over(request, socket)
        transport.write(accepted)
        socket.begin(transport, handshake.connection)


def _take_over(request: Request, socket: SessionSocket) -> Any:
    """Have the connection of a request tell the socket all that comes from now on."""
    channel: Any = request.channel
    transport = channel.transport
    channel.setTimeout(None)
    channel.dataReceived = socket.data_received
    channel.connectionLost = socket.connection_lost
    # The channel held back what it reads while it could not write.
    transport.unregisterProducer()
    return transport
