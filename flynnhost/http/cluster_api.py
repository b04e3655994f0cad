"""What the leader tells of the cluster, and takes for it, over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, field
from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from flynnhost.background import shielded
from flynnhost.errors import NoLeader
from flynnhost.http.bodies import empty_body, json_body, json_list, json_map, json_value
from flynnhost.http.connection import read_body
from flynnhost.http.decode import decode_batch_in_turns, decode_draining
from flynnhost.http.encode import (
    encode_host_event,
    encode_json,
    host_pieces,
    placement_pieces,
    present_host,
)
from flynnhost.http.errors import json_errors
from flynnhost.http.host_registration import decode_host, register_host
from flynnhost.http.media import EVENTS, JSON, check_json_body, negotiate, prefers_minimal
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.query import Query
from flynnhost.http.routes import exact_routes
from flynnhost.http.sse import EventSource, Wanted
from flynnhost.interfaces import Following, ICluster, IClusterHosts
from flynnhost.model import HostEvent


@define(eq=False)
class ClusterAPI:
    """The routes under ``/cluster``.

    :param host_id: this host's ID.
    :param following: what it knows of other hosts that lead.
    """

    app = Klein()
    exact_routes(app)
    json_errors(app)

    _clock: IReactorTime
    _cluster: ICluster
    _streams: OpenStreams
    _host_id: str = ""
    _following: Following | None = None
    _events: EventSource[HostEvent] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._events = EventSource(self._clock, self._streams, encode_host_event)

    @app.route("/hosts", methods=["GET"])
    async def hosts(self, request: Request) -> bytes | None:
        """All hosts with their jobs, or with only the IDs of those, or without."""
        negotiate(request, JSON)
        jobs = _jobs_wanted(request)
        hosts = list(self._cluster.hosts())
        self._say_whether_complete(request)
        return await json_list(request, self._clock, (host_pieces(host, jobs) for host in hosts))

    @app.route("/hosts/<host_id>", methods=["GET"])
    async def host(self, request: Request, host_id: str) -> bytes | None:
        """One host, with the same choice."""
        negotiate(request, JSON)
        jobs = _jobs_wanted(request)
        host = self._hosts().host(host_id)
        self._say_whether_complete(request)
        return await json_value(request, self._clock, host_pieces(host, jobs))

    @app.route("/hosts/", methods=["PUT"], defaults={"host_id": ""})
    @app.route("/hosts/<host_id>", methods=["PUT"])
    async def register(self, request: Request, host_id: str) -> None:
        """Register a host that speaks only Flynn's own way; the answer is a stream of its jobs."""
        check_json_body(request)
        host = await decode_host(self._clock, read_body(request), host_id)
        await register_host(request, self._clock, self._hosts(), self._streams, host)

    @app.route("/hosts/<host_id>/drain", methods=["PUT"])
    async def set_draining(self, request: Request, host_id: str) -> bytes:
        """Place no more jobs on a host, or some again. Its jobs go on."""
        check_json_body(request)
        draining = decode_draining(read_body(request))
        await shielded(self._hosts().set_draining(host_id, draining))
        return empty_body(request)

    @app.route("/hosts/<host_id>/jobs/<job_id>", methods=["DELETE"])
    def remove_job(self, request: Request, host_id: str, job_id: str) -> bytes:
        """Take a job out of the list; it is not stopped."""
        self._hosts().remove_job(host_id, job_id)
        return empty_body(request)

    @app.route("/jobs", methods=["POST"])
    async def add_jobs(self, request: Request) -> bytes | None:
        """Commit jobs to hosts; the answer is the whole cluster, or the jobs only if preferred."""
        negotiate(request, JSON)
        check_json_body(request)
        batch = await decode_batch_in_turns(self._clock, read_body(request))
        placements = await shielded(self._cluster.submit(batch))
        if prefers_minimal(request):
            request.setHeader(b"Preference-Applied", b"return=minimal")
            return await json_value(request, self._clock, placement_pieces(placements))
        hosts = list(self._cluster.hosts())
        self._say_whether_complete(request)
        return await json_map(
            request, self._clock, ((encode_json(host.id), host_pieces(host)) for host in hosts)
        )

    @app.route("/events", methods=["GET"])
    async def events(self, request: Request) -> None:
        """Hosts that come and go."""
        negotiate(request, EVENTS)
        present = list(self._cluster.hosts())
        self._say_whether_complete(request)
        await self._events.stream(
            request,
            self._cluster.events,
            Wanted.of(request),
            lambda: map(present_host, present),
        )

    @app.route("/leader", methods=["GET"])
    def leader(self, request: Request) -> bytes:
        """Who leads."""
        negotiate(request, JSON)
        try:
            leader = self._cluster.leader()
        except NoLeader:
            return json_body(request, encode_json(self._followed()))
        self._say_whether_complete(request)
        return json_body(request, encode_json(leader))

    def _followed(self) -> Mapping[str, Any]:
        """Who leads, when it is not this host."""
        if self._following is None:
            raise NoLeader
        record = self._following.other_than(self._host_id)
        if self._following.joined_term() != record.term and not self._following.current():
            raise NoLeader(f"it is not known whether host {record.id} leads still")
        return {"id": record.id, "addr": record.addr, "term": record.term, "since": record.since}

    def _hosts(self) -> IClusterHosts:
        hosts: IClusterHosts | None = IClusterHosts(self._cluster, None)
        if hosts is None:
            raise NoLeader
        return hosts

    def _say_whether_complete(self, request: Request) -> None:
        request.setHeader(b"X-Cluster-Complete", b"true" if self._cluster.complete() else b"false")


def _jobs_wanted(request: Request) -> str:
    return Query.of(request).choice("jobs", ("full", "ids", "none")) or "full"
