"""Connections to members of etcd. Each carries one exchange at a time, and can be cut at any moment.

Twisted's own pool can't cut them: cancelling a request or a body leaves the connection to a peer that
hangs open, with TLS for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, cast

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IConsumer, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from flynnhost.etcd.endpoints import Endpoint
from flynnhost.etcd.tls import Tls

_IDLE_FOR = 60
"""Seconds after which a connection that is not used is closed."""

_HEADERS = {"Content-Type": "application/json"}


class AnswerTooLong(Exception):
    """A member sends more than is taken."""


@implementer(IBodyProducer)
@frozen(eq=False)
class _Body:
    body: bytes

    @property
    def length(self) -> int:
        return len(self.body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self.body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It is all written already."""

    def resumeProducing(self) -> None:
        """It is all written already."""

    def stopProducing(self) -> None:
        """It is all written already."""


@define(eq=False)
class _WholeBody(Protocol):
    """Collects an answer."""

    _limit: int
    done: Deferred[bytes] = field(init=False, factory=Deferred)
    _parts: list[bytes] = field(init=False, factory=list)
    _size: int = field(init=False, default=0)

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._limit:
            self._parts.append(data)
        elif not self.done.called:
            self.done.errback(AnswerTooLong(f"an answer of more than {self._limit} bytes"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._parts))
        else:
            self.done.errback(reason)


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
@define(eq=False)
class _Remembering:
    """Makes connections like others, and knows the one it has made last."""

    _endpoint: IStreamClientEndpoint
    protocol: Any = field(init=False, default=None)

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        def connected(protocol: Any) -> Any:
            self.protocol = protocol
            return protocol

        cast(Any, factory).noisy = False  # or it logs that it starts and stops, each time
        return self._endpoint.connect(factory).addCallback(connected)


@define(eq=False)
class Lane:
    """One connection to a member, made when it is needed.

    :param connect_within: seconds that a connection may take to be made.
    """

    reactor: Any
    endpoint: Endpoint
    _tls: Tls | None
    _connect_within: float
    used: bool = field(init=False, default=False)
    cut: bool = field(init=False, default=False)
    _connector: _Remembering = field(init=False)
    _pool: HTTPConnectionPool = field(init=False)
    _agent: Agent = field(init=False)

    def __attrs_post_init__(self) -> None:
        to: Any = HostnameEndpoint(self.reactor, self.endpoint.host, self.endpoint.port, self._connect_within)
        if self.endpoint.secure:
            tls = self._tls if self._tls is not None else Tls()
            to = wrapClientTLS(tls.creator(self.endpoint.host), to)
        self._connector = _Remembering(to)
        self._pool = HTTPConnectionPool(self.reactor, persistent=True)
        self._pool.maxPersistentPerHost = 1
        self._pool.retryAutomatically = False
        self._pool.cachedConnectionTimeout = _IDLE_FOR
        self._agent = Agent.usingEndpointFactory(self.reactor, self._connector, self._pool)

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Deferred[IResponse]:
        """Send a request. Fires when the answer begins. Whoever cancels it cuts the lane too."""
        self.used = True
        all_headers = Headers({key: [value] for key, value in {**_HEADERS, **headers}.items()})
        url = f"{self.endpoint.url}{path}".encode()
        return self._agent.request(b"POST", url, all_headers, _Body(body))

    def read(self, response: IResponse, limit: int) -> Deferred[bytes]:
        """The whole body of an answer. Whoever cancels it cuts the lane too.

        :raises AnswerTooLong: (as the Deferred's failure) when there is more than ``limit`` bytes.
        """
        body = _WholeBody(limit)
        response.deliverBody(body)
        return body.done

    def abort(self) -> None:
        """Cut the connection at once, whatever goes on there."""
        self.cut = True
        transport = getattr(self._connector.protocol, "transport", None)
        if transport is not None:
            transport.abortConnection()
        self._pool.closeCachedConnections()


@define(eq=False)
class Lanes:
    """Connections that wait to be used again, some for each member.

    :param make: makes one to a member.
    :param idle: how many of each member may wait.
    """

    _make: Callable[[Endpoint], Lane]
    _idle: int
    _waiting: dict[Endpoint, deque[Lane]] = field(init=False, factory=dict)
    _busy: dict[Lane, None] = field(init=False, factory=dict)

    def take(self, endpoint: Endpoint, fresh: bool = False) -> Lane:
        """A connection for one exchange. Give it back.

        :param fresh: whether it must be a new one.
        """
        waiting = None if fresh else self._waiting.get(endpoint)
        lane = waiting.pop() if waiting else self._make(endpoint)
        self._busy[lane] = None
        return lane

    def give_back(self, lane: Lane) -> None:
        """The exchange is over; after a failure, when the lane was cut."""
        self._busy.pop(lane, None)
        waiting = self._waiting.setdefault(lane.endpoint, deque())
        if not lane.cut:
            waiting.append(lane)
        while len(waiting) > self._idle:
            waiting.popleft().abort()

    def close(self) -> None:
        """Cut all connections."""
        for lane in [*self._busy, *(lane for waiting in self._waiting.values() for lane in waiting)]:
            lane.abort()
        self._waiting.clear()
