"""Where hosts connect to their leader: ``GET /cluster/session``, a WebSocket."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request
from werkzeug.exceptions import MethodNotAllowed
from wsproto import ConnectionType
from wsproto.events import AcceptConnection
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from flynnhost.errors import InvalidField
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.session_socket import SessionSocket
from flynnhost.http.upgrade import UpgradeResource, take_over
from flynnhost.interfaces import IClusterHosts

SESSION_PATH = b"/cluster/session"


class SessionResource(UpgradeResource):
    """Turns a request into a session with this leader."""

    def __init__(self, clock: IReactorTime, hosts: IClusterHosts, streams: OpenStreams) -> None:
        super().__init__(self._open)
        self._clock = clock
        self._hosts = hosts
        self._streams = streams

    def _open(self, request: Request) -> None:
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
        transport, early = take_over(request, socket)
        transport.write(accepted)
        socket.begin(transport, handshake.connection)
        if early:
            socket.data_received(early)
