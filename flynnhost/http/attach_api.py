"""Where clients get at the streams of jobs: ``POST /attach``, and commands that are run in jobs."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, evolve
from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request
from werkzeug.exceptions import MethodNotAllowed

from flynnhost.attach_frames import PROTOCOL
from flynnhost.http.attach_stream import AttachStream
from flynnhost.http.connection import read_body
from flynnhost.http.decode_attach import decode_attach, decode_exec, on_this_host
from flynnhost.http.media import check_json_body
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.query import Query
from flynnhost.http.upgrade import UpgradeResource, check_upgrade, take_over
from flynnhost.interfaces import IAgent, IAttachment

ATTACH_PATH = b"/attach"


@define(eq=False)
class AttachAPI:
    """Turns requests into attachments."""

    _clock: IReactorTime
    _agent: IAgent
    _streams: OpenStreams

    def attach(self) -> UpgradeResource:
        """The resource that attaches to a job."""
        return UpgradeResource(self._attach)

    def exec(self, job_id: str) -> UpgradeResource:
        """The resource that runs a command in a job."""

        def begin(request: Request) -> None:
            self._check(request)
            spec = decode_exec(read_body(request))
            self._open(request, lambda stream: self._agent.exec(job_id, spec, stream))

        return UpgradeResource(begin)

    def _attach(self, request: Request) -> None:
        if request.method != b"POST":
            raise MethodNotAllowed(["POST"])
        self._check(request)
        wait = Query.of(request).flag("wait", default=True)
        query = evolve(decode_attach(read_body(request)), wait=wait)
        query = on_this_host(query, self._agent.host_id, query.job_id in self._agent.jobs())
        self._open(request, lambda stream: self._agent.attach(query, stream))

    def _check(self, request: Request) -> None:
        self._streams.check()
        check_upgrade(request, PROTOCOL)
        if request.requestHeaders.hasHeader(b"content-type"):
            check_json_body(request)

    def _open(self, request: Request, connect: Callable[[AttachStream], IAttachment]) -> None:
        stream = AttachStream(self._clock)
        attachment = connect(stream)
        self._streams.add(stream)
        transport, received = take_over(request, stream)
        stream.begin(transport, attachment, received)
