"""Asking the engine for the output of containers, without a thread for each who reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, cast
from urllib.parse import quote, urlencode

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent
from twisted.web.iweb import IAgentEndpointFactory, IResponse
from zope.interface import implementer

from flynnhost.containers import translate
from flynnhost.containers.address import EngineAddress
from flynnhost.containers.frames import FrameDecoder
from flynnhost.containers.log_stream import LogStream
from flynnhost.containers.translate import Refusal, explanation
from flynnhost.errors import EngineUnavailable, FlynnHostError
from flynnhost.interfaces import ILogReceiver, ILogStream, LogQuery

_LONGEST_EXPLANATION = 65_536


@implementer(IStreamClientEndpoint, IAgentEndpointFactory)
@define(eq=False)
class _OneConnection:
    """The way to the engine for one request; remembers the connection, to break it off.

    The transport that the body of an answer has can't do that.
    """

    _endpoint: IStreamClientEndpoint
    _left: Callable[[_OneConnection], None]
    _transport: Any = None
    _aborted: bool = False

    def endpointForURI(self, _uri: URI) -> IStreamClientEndpoint:
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    def abort(self) -> None:
        self._aborted = True
        self._left(self)
        if self._transport is not None:
            self._transport.abortConnection()

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        cast(Any, factory).noisy = False  # or it logs that it starts and stops, each time
        protocol = await self._endpoint.connect(factory)
        self._transport = cast(Protocol, protocol).transport
        if ITCPTransport.providedBy(self._transport):
            self._transport.setTcpKeepAlive(True)
        if self._aborted:
            self._transport.abortConnection()
        return protocol


class _Explanation(Protocol):
    """Collects the body of a refusal."""

    def __init__(self) -> None:
        self.body = b""
        self.complete: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.body = (self.body + data)[:_LONGEST_EXPLANATION]

    def connectionLost(self, _reason: Failure = connectionDone) -> None:
        if not self.complete.called:
            self.complete.callback(None)


@define(eq=False)
class EngineLogs:
    """The transfers of output from one engine.

    :param timeout: how long the engine may take to agree to a transfer.
    """

    _reactor: IReactorTime
    _address: EngineAddress
    _timeout: float
    _open: set[_OneConnection] = field(init=False, factory=set)

    def read(
        self, container_id: str, tty: bool, query: LogQuery, receiver: ILogReceiver
    ) -> Deferred[ILogStream]:
        """See ``IContainers.logs``."""
        return Deferred.fromCoroutine(self._read(container_id, tty, query, receiver))

    def close(self) -> None:
        """Break off all transfers."""
        for connection in list(self._open):
            connection.abort()

    async def _read(
        self, container_id: str, tty: bool, query: LogQuery, receiver: ILogReceiver
    ) -> ILogStream:
        endpoint = self._address.endpoint(self._reactor, self._timeout)
        connection = _OneConnection(endpoint, self._open.discard)
        self._open.add(connection)
        agent = Agent.usingEndpointFactory(self._reactor, connection)
        try:
            response = await self._bounded(agent.request(b"GET", _url(container_id, query)))
            await self._check(response, container_id)
        except (FlynnHostError, CancelledError):
            connection.abort()
            raise
        except Exception as e:
            connection.abort()
            raise EngineUnavailable(_words(e)) from e
        stream = LogStream(response, receiver, connection.abort, None if tty else FrameDecoder())
        # Not before the caller has the stream.
        self._reactor.callLater(0, stream.begin)
        return stream

    async def _check(self, response: IResponse, container_id: str) -> None:
        if response.code != 200:
            body = _Explanation()
            response.deliverBody(body)
            await self._bounded(body.complete)
            refusal = Refusal(response.code, explanation(body.body))
            raise translate.understood(refusal, translate.looking_at(container_id))

    def _bounded(self, waiting: Deferred[Any]) -> Deferred[Any]:
        return waiting.addTimeout(self._timeout, self._reactor, _no_answer)


def _url(container_id: str, query: LogQuery) -> bytes:
    parameters = {
        "stdout": int(query.stdout),
        "stderr": int(query.stderr),
        "follow": int(query.follow),
        "tail": "all" if query.tail is None else query.tail,
    }
    path = f"/containers/{quote(container_id, safe='')}/logs?{urlencode(parameters)}"
    return f"http://docker{path}".encode("ascii")


def _words(error: Exception) -> str:
    """The words of the error in which it began; Twisted lists them in ``reasons``."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return _words(reasons[0].value)
    return str(error) or type(error).__name__


def _no_answer(_result: object, timeout: float) -> NoReturn:
    raise EngineUnavailable(f"no answer in {timeout:g} s")
