"""Flynn's own way for a host to register: its answer is the stream of the jobs it is to run."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from attrs import define, field
from msgspec import Struct
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.web.server import Request

from flynnhost.errors import BadSyntax, FellBehind, InvalidField, NotReady
from flynnhost.http.connection import notice_loss
from flynnhost.http.decode import decode_batch_in_turns
from flynnhost.http.encode import encode_job
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.outflow import Outflow
from flynnhost.http.sse import BACKLOG_BYTES, BACKLOG_EVENTS, KEEP_ALIVE, KEEP_ALIVE_AFTER, error_frame
from flynnhost.http.wire_errors import DECODING_ERRORS, decoding_error
from flynnhost.interfaces import IClusterHosts
from flynnhost.model import Host, Job

LOST_WITHIN = 45.0
"""Seconds without a sign that such a host has got what was sent, a keep-alive at least, after which it is
gone: its ID is free then.
"""


class _WireHost(Struct, forbid_unknown_fields=True):
    id: str = ""
    metadata: dict[str, str] | None = None
    jobs: list[msgspec.Raw] | None = None


_hosts = msgspec.json.Decoder(_WireHost)


async def decode_host(clock: IReactorTime, body: bytes, host_id: str) -> Host:
    """The host that is sent to an URL with its ID.

    :raises InvalidField: for the first value that can't be accepted.
    :raises BadSyntax: when the body is no JSON.
    """
    if not body:
        raise BadSyntax("is empty")
    try:
        wire = _hosts.decode(body)
    except DECODING_ERRORS as e:
        raise decoding_error(e, body) from None
    if not host_id or not wire.id:
        raise InvalidField("id", "must not be empty")
    if wire.id != host_id:
        raise InvalidField("id", f"must be {host_id!r} as in the URL, not {wire.id!r}")
    # As the batch of a host of that name, so that the paths of fields come out right.
    jobs = await decode_batch_in_turns(clock, msgspec.json.encode({"jobs": wire.jobs or []}))
    return Host(host_id, wire.metadata or {}, jobs["jobs"])


async def register_host(
    request: Request, clock: IReactorTime, hosts: IClusterHosts, streams: OpenStreams, host: Host
) -> None:
    """Answer with a stream of jobs for as long as the host wants. Returns when it has gone.

    :raises InvalidField: when it is no host.
    :raises DuplicateHost: when a host of that ID is there.
    """
    streams.check()
    stream = _JobStream(Outflow(request, clock), clock)
    gone = hosts.register(host, stream.write)
    notice_loss(request, LOST_WITHIN)
    try:
        request.setHeader(b"Content-Type", b"text/event-stream; charset=utf-8")
        request.setHeader(b"Cache-Control", b"no-cache")
        stream.begin()
        streams.add(stream.out)
        await stream.out.when_over()
    finally:
        stream.end()
        gone()


@define(eq=False)
class _JobStream:
    """The jobs for one such host."""

    out: Outflow
    _clock: IReactorTime
    _keep_alive: IDelayedCall | None = field(init=False, default=None)
    _ended: bool = field(init=False, default=False)

    def begin(self) -> None:
        """Send the headers."""
        self.out.start()
        self._keep_alive = self._clock.callLater(KEEP_ALIVE_AFTER, self._idle)

    def end(self) -> None:
        """Take no more jobs."""
        self._ended = True
        if self._keep_alive is not None and self._keep_alive.active():
            self._keep_alive.cancel()

    def write(self, jobs: Sequence[Job]) -> None:
        """Write jobs, all or none.

        :raises NotReady: when the host has gone, or is too far behind.
        """
        if self._ended:
            raise NotReady("the host has gone")
        if self.out.queued > BACKLOG_EVENTS or self.out.queued_bytes > BACKLOG_BYTES:
            self.end()
            self.out.cut_short(error_frame(FellBehind()))
            raise NotReady("the host fell behind")
        for job in jobs:
            self.out.send(b"data: %b\n\n" % encode_job(job))
        if self._keep_alive is not None:
            self._keep_alive.reset(KEEP_ALIVE_AFTER)

    def _idle(self) -> None:
        self._keep_alive = self._clock.callLater(KEEP_ALIVE_AFTER, self._idle)
        if not self.out.busy:
            self.out.send(KEEP_ALIVE)
