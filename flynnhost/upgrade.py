"""One HTTP request whose connection is used for something else once the server has agreed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import h11
from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from flynnhost.errors import FlynnHostError

Headers = Sequence[tuple[bytes, bytes]]

LONGEST_REFUSAL = 65_536
"""How many bytes of the body are kept when the server does not agree."""


@frozen
class UpgradeRequest:
    """What to ask for.

    :param target: the path, with the query.
    :param protocol: what the connection is to be used for.
    :param headers: more of them; those of the upgrade and the length of the body are added.
    :param stream_types: media types of a plain answer (200) after whose head the stream begins as well.
    """

    target: str
    protocol: bytes
    method: str = "POST"
    host: str = "localhost"
    headers: Headers = ()
    body: bytes = b""
    stream_types: Collection[bytes] = ()

    def headers_sent(self) -> Headers:
        """All headers."""
        return (
            (b"Host", self.host.encode("ascii")),
            (b"Connection", b"Upgrade"),
            (b"Upgrade", self.protocol),
            (b"Content-Length", b"%d" % len(self.body)),
            *self.headers,
        )


@frozen
class UpgradeRefused(FlynnHostError):
    """The server answered something else.

    :param body: of its answer, the first ``LONGEST_REFUSAL`` bytes.
    """

    status: int
    headers: Headers
    body: bytes

    def __str__(self) -> str:
        return f"the answer is {self.status} {self.body.decode(errors='replace').strip()}".strip()


@frozen
class UpgradeFailed(FlynnHostError):
    """There was no answer, or none that makes sense."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@define(eq=False)
class Upgraded:
    """A connection that the server has agreed to use. It is paused until there is someone to read it.

    :param status: of the answer, like its ``headers``, with names in small letters.
    """

    status: int
    headers: Headers
    _connection: _Connection

    @property
    def transport(self) -> Any:
        """The connection's transport, to write to."""
        return self._connection.transport

    def deliver(self, protocol: IProtocol) -> None:
        """Connect the protocol, which then gets whatever comes and came since the answer. Call it once."""
        self._connection.deliver(protocol)

    def something_came(self) -> Deferred[None]:
        """Fires when there is something to deliver, if only that the connection is gone."""
        return self._connection.something_came()

    def abort(self) -> None:
        """Break the connection off. May be called again."""
        self.transport.abortConnection()


def upgrade(
    clock: IReactorTime, endpoint: IStreamClientEndpoint, request: UpgradeRequest, within: float
) -> Deferred[Upgraded]:
    """Connect and ask. Fires when the server has agreed. Who cancels it breaks the connection off.

    :param within: seconds until the answer, the connecting included.
    :raises UpgradeRefused: (as the Deferred's failure) when it has not.
    :raises UpgradeFailed: (as the Deferred's failure) when there is no answer, or none that makes sense.
    """

    def too_late(_result: object, _timeout: float) -> Failure:
        return Failure(UpgradeFailed(f"no answer in {within:g} s"))

    asking = Deferred.fromCoroutine(_ask(endpoint, request))
    return asking.addTimeout(within, clock, onTimeoutCancel=too_late)


async def _ask(endpoint: IStreamClientEndpoint, request: UpgradeRequest) -> Upgraded:
    connection = _Connection(request)
    try:
        await endpoint.connect(_QuietFactory.forProtocol(lambda: connection))
    except (CancelledError, ConnectingCancelledError) as e:
        raise CancelledError from e
    except Exception as e:
        raise UpgradeFailed(words_of(e)) from e
    return await connection.answered


class _QuietFactory(Factory):
    noisy = False


@define(eq=False, slots=False)
class _Connection(Protocol):
    """Speaks HTTP until the server has agreed, and from then on passes on what comes.

    :ivar answered: fires with the ``Upgraded``.
    """

    _request: UpgradeRequest
    answered: Deferred[Upgraded] = field(init=False)
    _http: h11.Connection = field(init=False, factory=lambda: h11.Connection(h11.CLIENT))
    _asked: bytes = field(init=False)
    _refusal: h11.Response | None = field(init=False, default=None)
    _body: bytes = field(init=False, default=b"")
    _agreed: bool = field(init=False, default=False)
    _early: list[bytes] = field(init=False, factory=list)
    _coming: list[Deferred[None]] = field(init=False, factory=list)
    _reader: IProtocol | None = field(init=False, default=None)
    _lost: Failure | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self.answered = Deferred(lambda _: self._transport.abortConnection())
        self._asked = self._question()

    @property
    def _transport(self) -> Any:
        return self.transport

    def connectionMade(self) -> None:
        """Ask."""
        self._transport.write(self._asked)

    def dataReceived(self, data: bytes) -> None:
        """Some of the answer came, or of what follows it."""
        if self._reader is not None:
            self._reader.dataReceived(data)
        elif self._agreed:
            self._early.append(data)
            self._transport.pauseProducing()
            self._tell()
        elif not self.answered.called:
            self._received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """There is no connection any more."""
        if self._reader is not None:
            self._reader.connectionLost(reason)
        elif self._agreed:
            self._lost = reason
            self._tell()
        elif self._refusal is not None:
            self._refused()  # some bodies end like this
        else:
            self._fail(UpgradeFailed(f"the connection ended before the answer: {reason.getErrorMessage()}"))

    def deliver(self, protocol: IProtocol) -> None:
        """See ``Upgraded.deliver``."""
        protocol.makeConnection(self._transport)
        if self._lost is None:
            self._transport.resumeProducing()
        early, self._early = b"".join(self._early), []
        self._reader = protocol
        if early:
            protocol.dataReceived(early)
        if self._lost is not None:
            protocol.connectionLost(self._lost)

    def something_came(self) -> Deferred[None]:
        """See ``Upgraded.something_came``."""
        coming: Deferred[None] = Deferred(lambda waiting: self._coming.remove(waiting))
        self._coming.append(coming)
        if any(self._early) or self._lost is not None:
            self._tell()
        else:
            self._transport.resumeProducing()
        return coming

    def _tell(self) -> None:
        waiting, self._coming = self._coming, []
        for each in waiting:
            each.callback(None)

    def _question(self) -> bytes:
        request = self._request
        head = h11.Request(method=request.method, target=request.target, headers=list(request.headers_sent()))
        events: list[h11.Event] = [head, h11.Data(data=request.body), h11.EndOfMessage()]
        return b"".join(self._http.send(event) or b"" for event in events)

    def _received(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            while not self._agreed and not self.answered.called:
                event = self._http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                self._happened(event)
        except h11.RemoteProtocolError as e:
            self._fail(UpgradeFailed(f"the answer makes no sense: {e}"))

    def _happened(self, event: object) -> None:
        if isinstance(event, h11.InformationalResponse):
            if event.status_code == 101:
                self._agree(event)
        elif isinstance(event, h11.Response):
            if event.status_code == 200 and _header(event, b"content-type") in self._request.stream_types:
                self._agree(event)
            else:
                self._refusal = event
        elif isinstance(event, h11.Data):
            self._body = (self._body + bytes(event.data))[:LONGEST_REFUSAL]
            if len(self._body) == LONGEST_REFUSAL:
                self._refused()
        else:
            self._refused()

    def _agree(self, head: h11.InformationalResponse | h11.Response) -> None:
        self._agreed = True
        self._early.append(self._http.trailing_data[0])
        self._transport.pauseProducing()
        self.answered.callback(Upgraded(head.status_code, list(head.headers), self))

    def _refused(self) -> None:
        if self._refusal is not None:
            refusal = self._refusal
            self._fail(UpgradeRefused(refusal.status_code, list(refusal.headers), self._body))

    def _fail(self, error: Exception) -> None:
        self._transport.abortConnection()
        if not self.answered.called:
            self.answered.errback(error)


def _header(head: h11.Response, name: bytes) -> bytes:
    return next((value for key, value in head.headers if key == name), b"").partition(b";")[0].strip()


def words_of(error: BaseException) -> str:
    """The words of the error in which it began; Twisted lists them in ``reasons``."""
    reasons = getattr(error, "reasons", None)
    return words_of(reasons[0].value) if reasons else str(error) or type(error).__name__
