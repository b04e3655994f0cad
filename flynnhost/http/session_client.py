"""Connects hosts to their leader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Event, RejectConnection, RejectData
from wsproto.events import Request as Handshake
from wsproto.utilities import ProtocolError

from flynnhost.errors import NotReady
from flynnhost.http.addresses import endpoint_at
from flynnhost.http.session_server import SESSION_PATH
from flynnhost.http.session_socket import SessionSocket
from flynnhost.interfaces import ISessionTransport, ISessionUser

CONNECT_WITHIN = 10.0
"""Seconds for the connection and the handshake."""

Begin = Callable[[ISessionTransport], ISessionUser]
HeaderLines = Sequence[tuple[bytes, bytes]]


def _no_headers() -> HeaderLines:
    return ()


@define(eq=False)
class SessionConnector:
    """An ``ISessionConnector``.

    :param headers: what to send with the handshake, such as credentials.
    :param within: seconds for the connection and the handshake.
    """

    _reactor: Any
    _headers: Callable[[], HeaderLines] = _no_headers
    _within: float = CONNECT_WITHIN

    def connect(self, addr: str, begin: Begin) -> Deferred[ISessionTransport]:
        """See ``ISessionConnector``."""
        given_up: list[bool] = []

        def give_up(_: object) -> None:
            given_up.append(True)
            work.cancel()

        def done(result: ISessionTransport | Failure) -> None:
            # An endpoint that is cancelled may call that something else.
            if not given_up:
                answer.callback(result)

        work = Deferred.fromCoroutine(self._connect(addr, begin))
        answer: Deferred[ISessionTransport] = Deferred(give_up)
        work.addBoth(done)
        return answer.addTimeout(
            self._within, self._reactor, onTimeoutCancel=lambda *_: _too_late(addr, self._within)
        )

    async def _connect(self, addr: str, begin: Begin) -> ISessionTransport:
        endpoint = endpoint_at(self._reactor, addr, self._within)
        protocol = _Client(self._reactor, addr, self._headers(), begin)
        try:
            await endpoint.connect(_QuietFactory.forProtocol(lambda: protocol))
        except (ConnectError, ConnectingCancelledError, DNSLookupError) as e:
            raise NotReady(f"nobody answers at {addr}: {e}") from e
        return await protocol.opened


class _QuietFactory(Factory):
    """Each session has one, and the sessions are in the log already."""

    noisy = False


def _too_late(addr: str, within: float) -> Failure:
    return Failure(NotReady(f"no session with {addr} within {within:g} s"))


@define(eq=False, slots=False)
class _Client(Protocol):
    """The connection, at first for the handshake.

    :ivar opened: fires with the transport when the leader has agreed.
    """

    _reactor: Any
    _addr: str
    _headers: HeaderLines
    _begin: Begin
    opened: Deferred[ISessionTransport] = field(init=False)
    _socket: SessionSocket | None = field(init=False, default=None)
    _handshake: WSConnection = field(init=False, factory=lambda: WSConnection(ConnectionType.CLIENT))
    _status: int = field(init=False, default=0)
    _refusal: bytes = field(init=False, default=b"")

    def __attrs_post_init__(self) -> None:
        self.opened = Deferred(lambda _: self._transport.abortConnection())

    @property
    def _transport(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        """Begin the handshake."""
        self._transport.setTcpNoDelay(True)
        target = SESSION_PATH.decode()
        self._transport.write(
            self._handshake.send(Handshake(self._addr, target, extra_headers=list(self._headers)))
        )

    def dataReceived(self, data: bytes) -> None:
        """Some bytes came."""
        if self._socket is not None:
            self._socket.data_received(data)
            return
        try:
            self._handshake.receive_data(data)
            for event in self._handshake.events():
                self._happened(event)
                if self._socket is not None:
                    break
        except ProtocolError as e:
            self._fail(f"{self._addr} does not speak our way: {e}")
            return
        if self._socket is not None:
            self._socket.data_received(b"")  # what came with the answer

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """There is no connection any more."""
        if self._socket is not None:
            self._socket.connection_lost(reason)
        else:
            self._fail(f"{self._addr} has ended the connection: {reason.getErrorMessage()}")

    def _happened(self, event: Event) -> None:
        if isinstance(event, AcceptConnection):
            self._open()
        elif isinstance(event, RejectConnection):
            self._status = event.status_code
            if not event.has_body:
                self._refused()
        elif isinstance(event, RejectData):
            self._refusal = (self._refusal + event.data)[:1000]
            if event.body_finished:
                self._refused()

    def _open(self) -> None:
        connection = self._handshake.connection
        if self.opened.called or connection is None:
            return
        self._socket = SessionSocket(self._reactor)
        self._socket.begin(self._transport, connection)
        self._socket.user = self._begin(self._socket)
        self.opened.callback(self._socket)

    def _refused(self) -> None:
        said = self._refusal.decode(errors="replace")
        self._fail(f"{self._addr} answers {self._status} {said}".strip())

    def _fail(self, reason: str) -> None:
        self._transport.abortConnection()
        if not self.opened.called:
            self.opened.errback(NotReady(reason))
