"""Sessions over WebSockets: either end, once the handshake is done.

``twisted.web.websocket`` can neither bound a message nor say that the other side does not keep up,
so this uses the library that it is made of.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.python.failure import Failure
from wsproto.connection import Connection, ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping
from wsproto.utilities import LocalProtocolError, ProtocolError
from zope.interface import implementer

from flynnhost.gate import Gate
from flynnhost.interfaces import ISessionUser
from flynnhost.messages import MAX_MESSAGE_BYTES

CLOSE_WITHIN = 10.0
"""Seconds that the other side has to take what is left when the connection is closed from here."""

_TOO_LARGE = 1009
_NO_MEANING = 1003


@implementer(IPushProducer)
@define(eq=False)
class SessionSocket:
    """An ``ISessionTransport`` on a connection of Twisted's.

    :param limit: how long a message may be.
    :ivar user: takes all that is received.
    """

    _clock: IReactorTime
    _limit: int = MAX_MESSAGE_BYTES
    user: ISessionUser | None = None
    _connection: Connection | None = field(init=False, default=None)
    _transport: Any = field(init=False, default=None)
    _pieces: list[bytes] = field(init=False, factory=list)
    _size: int = field(init=False, default=0)
    _closing: bool = field(init=False, default=False)
    _deadline: IDelayedCall | None = field(init=False, default=None)
    _gone: bool = field(init=False, default=False)
    _over: Gate = field(init=False, factory=Gate)
    _reason: str = field(init=False, default="")
    full: bool = field(init=False, default=False)

    def begin(self, transport: Any, connection: Connection) -> None:
        """Take over a connection on which messages can be sent from now on.

        :param transport: of Twisted's, with no producer.
        """
        self._transport, self._connection = transport, connection
        transport.registerProducer(self, True)

    # --- ISessionTransport ----------------------------------------------------

    def send(self, message: bytes) -> None:
        """See ``ISessionTransport.send``."""
        if not self._closing and not self._gone:
            self._write(BytesMessage(message))

    def close(self) -> None:
        """See ``ISessionTransport.close`` and ``IOpen.close``."""
        self._close(1000, "closed here")

    # --- IOpen ----------------------------------------------------------------

    def when_over(self) -> Deferred[None]:
        """See ``IOpen.when_over``."""
        return self._over.wait()

    # --- the connection -------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        if self._closing or self._connection is None:
            return
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                self._happened(event)
                if self._closing:
                    break
        except ProtocolError as e:
            self._close(_NO_MEANING, str(e))

    def connection_lost(self, reason: Failure) -> None:
        """There is no connection any more."""
        if self._gone:
            return
        self._gone = True
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._pieces = []
        if self.user is not None:
            self.user.lost(self._reason or reason.getErrorMessage())
        self._over.open()

    def _happened(self, event: Event) -> None:
        if isinstance(event, Message):
            self._piece(event)
        elif isinstance(event, Ping):
            self._write(event.response())
        elif isinstance(event, CloseConnection):
            reason = f"closed by the other side: {event.reason or event.code}"
            self._close(event.code if event.code > 1001 else 1000, reason)

    def _piece(self, message: Message[Any]) -> None:
        if not isinstance(message, BytesMessage):
            self._close(_NO_MEANING, "a message was text")
            return
        self._size += len(message.data)
        if self._size > self._limit:
            self._close(_TOO_LARGE, f"a message was longer than {self._limit} bytes")
            return
        if not message.message_finished:
            self._pieces.append(bytes(message.data))
            return
        whole = b"".join((*self._pieces, message.data)) if self._pieces else bytes(message.data)
        self._pieces, self._size = [], 0
        if self.user is not None:
            self.user.received(whole)

    def _write(self, event: Event) -> None:
        if self._connection is not None:
            self._transport.write(self._connection.send(event))

    def _close(self, code: int, reason: str) -> None:
        if self._closing or self._gone or self._connection is None:
            return
        self._closing, self._reason = True, reason
        self._pieces = []
        if self._connection.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            try:
                self._write(CloseConnection(code, reason[:100]))
            except LocalProtocolError:
                self._reason = reason
        # A producer would keep the connection open until it was unregistered.
        self._transport.unregisterProducer()
        self._transport.loseConnection()
        self._deadline = self._clock.callLater(CLOSE_WITHIN, self._transport.abortConnection)

    # --- IPushProducer --------------------------------------------------------

    def pauseProducing(self) -> None:
        """The other side does not take more for now."""
        self.full = True

    def resumeProducing(self) -> None:
        """The other side took all there was."""
        self.full = False
        if self.user is not None and not self._closing:
            self.user.resumed()

    def stopProducing(self) -> None:
        """There is no connection any more, of which ``connection_lost`` tells next."""
