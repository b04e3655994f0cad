"""Has the leader answer what other hosts are asked of the cluster."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any, cast
from urllib.parse import quote

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.task import Cooperator
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, FileBodyProducer, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IResponse
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from flynnhost.errors import NoLeader, TooManyRequests
from flynnhost.http.addresses import endpoint_at
from flynnhost.http.connection import notice_loss, read_body
from flynnhost.http.errors import answer_failure
from flynnhost.http.forwarded import HOP_BY_HOP, Forwarded
from flynnhost.http.host_registration import LOST_WITHIN
from flynnhost.http.open_streams import OpenStreams
from flynnhost.interfaces import Following, ICluster, ILeaderRecord

FORWARDED_BY = b"X-Cluster-Forwarded-By"
"""Names the host that forwarded a request. Such a request is not forwarded again."""

CONNECT_WITHIN = 2.0
"""Seconds for a connection to the leader."""

MAX_FORWARDED = 512
"""How many requests, streams included, are forwarded at a time."""

CHANGE_WITHIN = 2.0
"""Seconds that whoever led has to end what it was asked, before it is given up."""

#: How many connections without a request are kept.
_IDLE_CONNECTIONS = 16

#: Seconds that they are kept, far less than the leader keeps them.
_IDLE_FOR = 30

#: Below ``/cluster``: hosts hold their sessions with the leader itself, and every host knows who leads.
_NEVER_FORWARDED = ([b"leader"], [b"session"])

_WITH_BODY = frozenset({b"POST", b"PUT", b"PATCH"})

#: What of a request is of no use to the leader, or made anew.
_NOT_FORWARDED = HOP_BY_HOP | {b"host", b"content-length", b"expect", FORWARDED_BY.lower()}

#: Characters that may stand in the target of a request as they are.
_SAFE = "%/:?&=,@!$'()*+-._~[]"


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
@define(eq=False)
class _Connector:
    """Connects to one endpoint, whatever is asked for."""

    _endpoint: IStreamClientEndpoint

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        cast(Any, factory).noisy = False  # or it logs that it starts and stops, each time
        return self._endpoint.connect(factory)


@define(eq=False)
class Forwarder:
    """Forwards requests to whoever leads.

    :param host_id: this host's ID.
    """

    log = Logger()

    _reactor: Any
    _host_id: str
    _following: Following
    _streams: OpenStreams
    _pool: HTTPConnectionPool = field(init=False)
    _cooperator: Cooperator = field(init=False)
    _open: set[Forwarded] = field(init=False, factory=set)
    _changed: IDelayedCall | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._pool = HTTPConnectionPool(self._reactor, persistent=True)
        self._pool.maxPersistentPerHost = _IDLE_CONNECTIONS
        self._pool.cachedConnectionTimeout = _IDLE_FOR
        self._cooperator = Cooperator(scheduler=lambda work: self._reactor.callLater(0, work))
        self._following.listen(self._leader_changed)
        self._streams.close_last(self._close)

    def forward(self, request: Request) -> None:
        """Have the leader answer a request.

        :raises NoLeader: when there is none to be asked.
        :raises TooManyRequests: when there are too many already.
        :raises NotReady: when this host is stopping.
        """
        leader = self._leader(request)
        self._streams.check()
        if len(self._open) >= MAX_FORWARDED:
            raise TooManyRequests(f"{MAX_FORWARDED} requests to the leader")
        if request.method == b"PUT":
            notice_loss(request, LOST_WITHIN)  # it may be a host that registers
        body = read_body(request) if request.method in _WITH_BODY else b""
        asked = self._ask(request, leader, body)
        forwarded = Forwarded(self._reactor, request, leader, body)
        self._open.add(forwarded)
        self._streams.add(forwarded)
        forwarded.when_over().addCallback(lambda _: self._open.discard(forwarded))
        forwarded.start(asked)

    def _leader(self, request: Request) -> ILeaderRecord:
        """Whom to ask."""
        if request.requestHeaders.hasHeader(FORWARDED_BY):
            raise NoLeader(f"host {self._host_id} does not lead, though another host takes it for the leader")
        return self._following.other_than(self._host_id)

    def _ask(self, request: Request, leader: ILeaderRecord, body: bytes) -> Deferred[IResponse]:
        connector = _Connector(endpoint_at(self._reactor, leader.addr, CONNECT_WITHIN))
        agent = Agent.usingEndpointFactory(self._reactor, connector, self._pool)
        # Whatever the target begins with, it must not become a part of the address.
        target = "/" + quote(request.uri[1:], safe=_SAFE)
        producer = FileBodyProducer(BytesIO(body), self._cooperator) if body else None
        asked: Deferred[IResponse] = agent.request(
            request.method, f"http://{leader.addr}{target}".encode(), self._headers(request), producer
        )
        return asked

    def _headers(self, request: Request) -> Headers:
        headers = Headers({FORWARDED_BY: [self._host_id.encode()]})
        dropped = _NOT_FORWARDED | set(_named(request.requestHeaders.getRawHeaders(b"connection", [])))
        for name, values in request.requestHeaders.getAllRawHeaders():
            if name.lower() not in dropped:
                headers.setRawHeaders(name, values)
        return headers

    # --- changes of the leader ------------------------------------------------

    def _leader_changed(self, _: ILeaderRecord | None) -> None:
        if self._changed is None:
            self._changed = self._reactor.callLater(CHANGE_WITHIN, self._follow)

    def _follow(self) -> None:
        """Give up those who lead no longer."""
        self._changed = None
        leader = self._following.leader()
        for forwarded in list(self._open):
            if leader is None or forwarded.leader.term != leader.term:
                forwarded.leader_changed()
        self._close_idle()

    def _close(self) -> Deferred[None]:
        if self._changed is not None and self._changed.active():
            self._changed.cancel()
        return self._close_idle()

    def _close_idle(self) -> Deferred[None]:
        def failed(failure: Failure) -> None:
            self.log.failure("While closing connections to the leader", failure)

        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed.addErrback(failed)


class ClusterResource(Resource):
    """Answers itself while this host leads, and has the leader answer otherwise.

    :param local: answers what this host is asked as the leader, and who leads.
    """

    isLeaf = True

    def __init__(self, local: IResource, cluster: ICluster, forwarder: Forwarder) -> None:
        super().__init__()
        self._local = local
        self._cluster = cluster
        self._forwarder = forwarder

    def render(self, request: Request) -> Any:
        """Answer a request."""
        if self._is_for_here(request):
            return self._local.render(request)
        try:
            self._forwarder.forward(request)
        except Exception:
            return answer_failure(request, Failure())
        return NOT_DONE_YET

    def _is_for_here(self, request: Request) -> bool:
        if request.postpath in _NEVER_FORWARDED:
            return True
        try:
            self._cluster.leader()
        except NoLeader:
            return False
        return True


def _named(lines: Iterable[bytes]) -> Iterable[bytes]:
    """The headers that these lines name."""
    for line in lines:
        yield from (name.strip().lower() for name in line.split(b","))
