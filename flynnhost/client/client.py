"""A client of a host for programs on Twisted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import treq.client
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from flynnhost.client import calls, streams
from flynnhost.client.address import HostAddress
from flynnhost.client.answers import Answer
from flynnhost.client.attach import AttachStream, open_attach
from flynnhost.client.byte_stream import ByteStream
from flynnhost.client.calls import Call
from flynnhost.client.errors import BadAnswer, ClientError, HostUnreachable, NoAnswer
from flynnhost.client.events import Events
from flynnhost.client.log_stream import LogStream
from flynnhost.client.reasons import reason_of
from flynnhost.client.streams import LogQuery, Streamed
from flynnhost.client.values import (
    ActiveJob,
    Host,
    HostEvent,
    Hosts,
    Job,
    JobEvent,
    Leader,
    LogLine,
    Placement,
    Readiness,
)

T = TypeVar("T")

CONNECT_WITHIN = 10.0
"""Seconds for a connection to be made."""

_ALL = LogQuery()

_LOST = (
    ConnectError,
    ConnectionClosed,
    ConnectingCancelledError,
    DNSLookupError,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
    PotentialDataLoss,
)


@define(eq=False)
class Client:
    """Asks one host. Every method can fail with any ``ClientError``; each has a deadline.

    :param address: the host.
    :param http: what sends requests; one with connections of its own if none is given.
    """

    _reactor: Any
    address: HostAddress
    _http: treq.client.HTTPClient | None = None
    _pool: HTTPConnectionPool = field(init=False)
    _asking: treq.client.HTTPClient = field(init=False)
    _streaming: treq.client.HTTPClient = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._pool = HTTPConnectionPool(self._reactor, persistent=True)
        # A stream has a connection of its own: it is mostly not read to its end.
        pools = (self._pool, HTTPConnectionPool(self._reactor, persistent=False))
        endpoints = _Endpoints(self._reactor)
        agents = (Agent.usingEndpointFactory(self._reactor, endpoints, pool) for pool in pools)
        self._asking, self._streaming = (self._http or treq.client.HTTPClient(agent) for agent in agents)

    def close(self) -> Deferred[None]:
        """Close the connections that are kept. Fires when they are closed."""
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed

    async def run(self, call: Call[T]) -> T:
        """What the host answers.

        :raises ClientError: see ``flynnhost.client.errors``.
        """
        return call.read(await self.ask(call))

    async def ask(self, call: Call[T]) -> Answer:
        """The answer as it comes, an error too.

        :raises HostUnreachable: when there is no connection, or none any more.
        :raises NoAnswer: when it takes too long.
        :raises BadAnswer: when it is no HTTP.
        """

        def too_late(_result: object, within: float) -> Failure:
            return Failure(NoAnswer(self.address.url, within))

        work = Deferred.fromCoroutine(self._ask(call))
        return await work.addTimeout(call.within, self._reactor, onTimeoutCancel=too_late)

    async def open(self, request: Streamed) -> ByteStream:
        """The body of an answer that goes on; close it after use.

        :raises ClientError: see ``flynnhost.client.errors``.
        """

        def too_late(_result: object, within: float) -> Failure:
            return Failure(NoAnswer(self.address.url, within))

        work = Deferred.fromCoroutine(self._open(request))
        return await work.addTimeout(request.within, self._reactor, onTimeoutCancel=too_late)

    async def _ask(self, call: Call[T]) -> Answer:
        with self._lost():
            response = await self._request(
                self._asking, call.method, call.target, call.all_headers(), call.body
            )
            return await self._whole(response)

    async def _open(self, request: Streamed) -> ByteStream:
        with self._lost():
            response = await self._request(
                self._streaming, "GET", request.target, {"Accept": request.accept}, None
            )
            if response.code != 200:
                raise (await self._whole(response)).error()
            stream = ByteStream(self._reactor, f"the answer of {self.address}", request.silence)
            response.deliverBody(stream)
            return stream

    async def _request(
        self,
        http: treq.client.HTTPClient,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> Any:
        url = self.address.url + target
        response = await http.request(method, url, headers=_headers(headers), data=body, unbuffered=True)
        return response.original

    async def _whole(self, response: Any) -> Answer:
        stream = ByteStream(self._reactor, f"the answer of {self.address}")
        response.deliverBody(stream)
        pieces: list[bytes] = []
        try:
            while piece := await stream.read():
                pieces.append(piece)
        finally:
            stream.close()  # nothing is left to close after the end
        return Answer(self.address.url, response.code, b"".join(pieces), lower_headers(response))

    @contextmanager
    def _lost(self) -> Iterator[None]:
        """Makes our errors of those of connections."""
        try:
            yield
        except (CancelledError, ClientError):
            raise
        except _LOST as e:
            if any(reason.check(CancelledError) for reason in getattr(e, "reasons", ())):
                raise CancelledError from e
            raise HostUnreachable(self.address.url, reason_of(e)) from e
        except Exception as e:
            raise BadAnswer(self.address.url, f"{type(e).__name__}: {e}") from e

    # --- the host: its jobs -----------------------------------------------------

    async def jobs(self) -> Mapping[str, ActiveJob]:
        """All jobs of the host by ID, ended ones too."""
        return await self.run(calls.jobs())

    async def job(self, job_id: str) -> ActiveJob:
        """One job of the host."""
        return await self.run(calls.job(job_id))

    async def run_job(self, job: Job) -> ActiveJob:
        """See ``calls.run_job``."""
        return await self.run(calls.run_job(job))

    async def stop_job(self, job_id: str, stop_timeout: float = 10.0) -> None:
        """See ``calls.stop_job``."""
        await self.run(calls.stop_job(job_id, stop_timeout))

    async def signal_job(self, job_id: str, number: int) -> None:
        """Send a running job a signal."""
        await self.run(calls.signal_job(job_id, number))

    async def host_status(self) -> Any:
        """See ``calls.host_status``."""
        return await self.run(calls.host_status())

    async def attributes(self) -> Mapping[str, str]:
        """What is said of the host for schedulers."""
        return await self.run(calls.attributes())

    async def set_attribute(self, name: str, value: str) -> None:
        """See ``calls.set_attribute``."""
        await self.run(calls.set_attribute(name, value))

    async def remove_attribute(self, name: str) -> None:
        """Say something no more."""
        await self.run(calls.remove_attribute(name))

    def job_events(self, job_id: str | None = None, *, snapshot: bool = False) -> Events[JobEvent]:
        """See ``streams.job_events``."""
        return self._events(streams.job_events(job_id, snapshot=snapshot), JobEvent)

    async def log(self, job_id: str, query: LogQuery = _ALL) -> LogStream:
        """A job's output, in pieces of stdout and stderr; close it after use."""
        request = streams.log_frames(job_id, query)
        return LogStream(await self.open(request), self.address.url)

    def log_lines(self, job_id: str, query: LogQuery = _ALL) -> Events[LogLine]:
        """A job's output line by line; it goes on where it broke off. Close it after use."""
        return self._events(streams.log_events(job_id, query), LogLine)

    async def log_text(self, job_id: str, query: LogQuery = _ALL) -> ByteStream:
        """A job's output as it is, stdout and stderr in one; close it after use."""
        return await self.open(streams.log_text(job_id, query))

    async def attach(
        self,
        job_id: str,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        logs: bool = False,
        stream: bool = True,
        wait: bool = True,
        size: tuple[int, int] = (0, 0),
    ) -> AttachStream:
        """See ``streams.attach``; close it after use."""
        request = streams.attach(
            job_id,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            logs=logs,
            stream=stream,
            wait=wait,
            size=size,
        )
        return await open_attach(self._reactor, self.address, request, until_exit=stream)

    async def exec(self, job_id: str, cmd: Sequence[str], **options: Any) -> AttachStream:
        """See ``streams.exec_``; close it after use."""
        return await open_attach(self._reactor, self.address, streams.exec_(job_id, cmd, **options))

    # --- the cluster ------------------------------------------------------------

    async def hosts(self, jobs: str = "none") -> Hosts:
        """See ``calls.hosts``."""
        return await self.run(calls.hosts(jobs))

    async def host(self, host_id: str, jobs: str = "none") -> Host:
        """See ``calls.host``."""
        return await self.run(calls.host(host_id, jobs))

    async def drain(self, host_id: str, draining: bool) -> None:
        """Place no more jobs on a host, or again."""
        await self.run(calls.drain(host_id, draining))

    async def forget_job(self, host_id: str, job_id: str) -> None:
        """See ``calls.forget_job``."""
        await self.run(calls.forget_job(host_id, job_id))

    async def commit_jobs(self, batch: Mapping[str, Sequence[Job]]) -> Sequence[Placement]:
        """See ``calls.commit_jobs``."""
        return await self.run(calls.commit_jobs(batch))

    async def leader(self) -> Leader:
        """Who leads the cluster."""
        return await self.run(calls.leader())

    def host_events(self, *, snapshot: bool = False) -> Events[HostEvent]:
        """See ``streams.host_events``."""
        return self._events(streams.host_events(snapshot=snapshot), HostEvent)

    def _events(self, request: Streamed, kind: type[T]) -> Events[T]:
        return Events(self._reactor, self.open, request, kind, self.address.url)

    # --- health -----------------------------------------------------------------

    async def health(self) -> Any:
        """Whether the process serves at all."""
        return await self.run(calls.health())

    async def readiness(self) -> Readiness:
        """See ``calls.readiness``."""
        return await self.run(calls.readiness())


@implementer(IAgentEndpointFactory)
@define(eq=False)
class _Endpoints:
    """Connections that notice after some time when the other end is gone without a word."""

    _reactor: Any

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        name = uri.host.decode("ascii").strip("[]")
        return _KeptAlive(HostnameEndpoint(self._reactor, name, uri.port, timeout=CONNECT_WITHIN))


@implementer(IStreamClientEndpoint)
@define(eq=False)
class _KeptAlive:
    _endpoint: IStreamClientEndpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        def connected(protocol: Any) -> IProtocol:
            protocol.transport.setTcpKeepAlive(True)
            return cast(IProtocol, protocol)

        return self._endpoint.connect(protocolFactory).addCallback(connected)


def _headers(given: Mapping[str, str]) -> Headers:
    headers = Headers()
    for name, value in given.items():
        headers.setRawHeaders(name, [value])
    return headers


def lower_headers(response: Any) -> dict[str, str]:
    """The headers of a response by their names in lower case."""
    return {
        name.decode("latin-1").lower(): values[-1].decode("latin-1")
        for name, values in response.headers.getAllRawHeaders()
    }
