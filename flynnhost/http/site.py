"""The HTTP API put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from flynnhost.errors import InvalidField
from flynnhost.http.attach_api import ATTACH_PATH, AttachAPI
from flynnhost.http.cluster_api import ClusterAPI
from flynnhost.http.errors import answer_failure
from flynnhost.http.forwarding import ClusterResource, Forwarder
from flynnhost.http.health_api import HealthAPI
from flynnhost.http.host_api import Facts, HostAPI, no_facts
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.request import BoundedRequest
from flynnhost.http.session_server import SESSION_PATH, SessionResource
from flynnhost.interfaces import Following, IAgent, ICluster, IClusterHosts

#: Seconds that a connection may be idle between requests.
IDLE_TIMEOUT = 120


class APISite(Site):
    """Serves the API. Requests are not logged one by one: what they change is."""

    noisy = False

    def log(self, request: http.Request) -> None:
        """A request was answered."""


class Root(Resource):
    """The root of all paths. Whatever is nobody's is refused by the last resort.

    :param last_resort: is given the paths that no child has, as they are.
    :param exact: resources for single paths, which come before all children.
    """

    def __init__(self, last_resort: IResource, exact: Mapping[bytes, IResource]) -> None:
        super().__init__()
        self._last_resort = last_resort
        self._exact = exact

    def getChildWithDefault(self, path: bytes, request: Request) -> IResource:
        """The resource for the first part of a path."""
        request.responseHeaders.removeHeader(b"server")
        try:
            _check_readable(request)
        except InvalidField:
            return _Refused(Failure())
        if request.path in self._exact:
            return self._exact[request.path]
        child: IResource = super().getChildWithDefault(path, request)
        return child

    def getChild(self, path: bytes, request: Request) -> IResource:
        """See ``last_resort``."""
        if request.prepath and request.postpath is not None:
            request.postpath.insert(0, request.prepath.pop())
        return self._last_resort


class _Refused(Resource):
    isLeaf = True

    def __init__(self, failure: Failure) -> None:
        super().__init__()
        self._failure = failure

    def render(self, request: Request) -> bytes:
        return answer_failure(request, self._failure)


def _check_readable(request: Request) -> None:
    """Refuse what the routing would fail on."""
    try:
        b"/".join([*(request.prepath or ()), *(request.postpath or ())]).decode()
    except UnicodeDecodeError:
        raise InvalidField("path", "is not UTF-8") from None
    try:
        request.getRequestHostname().decode().encode("idna")
    except UnicodeError:
        raise InvalidField("Host", "is not a host name") from None


def build_root(
    clock: IReactorTime,
    agent: IAgent,
    cluster: ICluster,
    streams: OpenStreams,
    following: Following | None = None,
    facts: Facts = no_facts,
) -> Root:
    """The resources of the whole API; more can be put beside them with ``putChild``."""
    attach = AttachAPI(clock, agent, streams)
    exact: dict[bytes, IResource] = {ATTACH_PATH: attach.attach()}
    hosts: IClusterHosts | None = IClusterHosts(cluster, None)
    if hosts is not None:
        exact[SESSION_PATH] = SessionResource(clock, hosts, streams)
    root = Root(HealthAPI(agent, cluster, following).app.resource(), exact)
    root.putChild(b"host", HostAPI(clock, agent, streams, attach, facts).app.resource())
    api: IResource = ClusterAPI(clock, cluster, streams, agent.host_id, following).app.resource()
    if following is not None:
        api = ClusterResource(api, cluster, Forwarder(clock, agent.host_id, following, streams))
    root.putChild(b"cluster", api)
    return root


def build_site(
    reactor: Any,
    agent: IAgent,
    cluster: ICluster,
    following: Following | None = None,
    facts: Facts = no_facts,
) -> tuple[APISite, OpenStreams]:
    """The site to listen with, and the streams to be closed before it is gone.

    :param following: what the host knows of other hosts that lead; None if there are no others.
    :param facts: gives what is told of the host beside what the agent says.
    """
    streams = OpenStreams()
    site = APISite(
        build_root(reactor, agent, cluster, streams, following, facts),
        requestFactory=BoundedRequest,
        reactor=reactor,
        timeout=IDLE_TIMEOUT,
        parsePOSTFormSubmission=False,
    )
    return site, streams
