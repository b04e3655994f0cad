"""What a host tells of its jobs, and does with them, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field
from klein import Klein
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource
from twisted.web.server import Request

from flynnhost.background import shielded
from flynnhost.errors import InvalidField
from flynnhost.http.attach_api import AttachAPI
from flynnhost.http.bodies import empty_body, json_body, json_map
from flynnhost.http.connection import read_body
from flynnhost.http.decode import decode_attribute, decode_job
from flynnhost.http.encode import encode_active_job, encode_job_event, encode_json, present_job
from flynnhost.http.errors import json_errors
from flynnhost.http.log_query import log_query
from flynnhost.http.log_stream import LOG_FORMS
from flynnhost.http.media import EVENTS, JSON, check_json_body, negotiate
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.routes import exact_routes
from flynnhost.http.sse import EventSource, Wanted
from flynnhost.interfaces import IAgent
from flynnhost.model import Job, JobEvent

_HIGHEST_SIGNAL = 64


Facts = Callable[[], Deferred[Mapping[str, Any]]]
"""Gives what is told of a host, as JSON values by name, soon. Never fails."""


def no_facts() -> Deferred[Mapping[str, Any]]:
    """Nothing is known."""
    return succeed({})


@define(eq=False)
class HostAPI:
    """The routes under ``/host``.

    :param facts: gives what is told of the host beside what the agent says.
    """

    app = Klein()
    exact_routes(app)
    json_errors(app)

    _clock: IReactorTime
    _agent: IAgent
    _streams: OpenStreams
    _attach: AttachAPI
    _facts: Facts = no_facts
    _events: EventSource[JobEvent] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._events = EventSource(self._clock, self._streams, encode_job_event)

    @app.route("/jobs", methods=["GET"])
    async def jobs(self, request: Request) -> bytes | None:
        """All jobs of this host, or their events."""
        if negotiate(request, JSON, EVENTS) == EVENTS:
            await self._events.stream(
                request,
                self._agent.events,
                Wanted.of(request),
                lambda: map(present_job, list(self._agent.jobs().values())),
            )
            return None
        jobs = list(self._agent.jobs().items())
        return await json_map(
            request, self._clock, ((encode_json(job_id), [encode_active_job(job)]) for job_id, job in jobs)
        )

    @app.route("/jobs/<job_id>", methods=["GET"])
    async def job(self, request: Request, job_id: str) -> bytes | None:
        """One job, or its events."""
        job = self._agent.job(job_id)
        if negotiate(request, JSON, EVENTS) == EVENTS:
            await self._events.stream(
                request, self._agent.events, Wanted.of(request), lambda: [present_job(job)], key=job_id
            )
            return None
        return json_body(request, encode_active_job(job))

    @app.route("/jobs/<job_id>", methods=["PUT"])
    async def run_job(self, request: Request, job_id: str) -> bytes:
        """Run a job here; the answer is the job as it is now."""
        negotiate(request, JSON)
        check_json_body(request)
        active = await self._accept(decode_job(read_body(request), job_id))
        return json_body(request, active)

    async def _accept(self, job: Job) -> bytes:
        try:
            (active,) = await shielded(self._agent.accept([job], 0))
        except InvalidField as e:
            raise InvalidField(e.field.removeprefix("[0]."), e.reason) from e
        return encode_active_job(active)

    @app.route("/jobs/<job_id>", methods=["DELETE"])
    async def stop_job(self, request: Request, job_id: str) -> bytes:
        """End a job; answered when it has ended."""
        await shielded(self._agent.stop_job(job_id))
        return empty_body(request)

    @app.route("/jobs/<job_id>/signal/<signal>", methods=["PUT"])
    async def signal_job(self, request: Request, job_id: str, signal: str) -> bytes:
        """Send a signal to a job."""
        await shielded(self._agent.signal_job(job_id, _signal_number(signal)))
        return empty_body(request)

    @app.route("/jobs/<job_id>/log", methods=["GET"])
    async def log_of_job(self, request: Request, job_id: str) -> None:
        """A job's output: byte for byte, in frames that tell the streams apart, or as events."""
        form = LOG_FORMS[negotiate(request, *LOG_FORMS)]
        query = log_query(request)
        self._streams.check()
        response = form(request, self._clock, job_id)
        began = response.start(self._agent, query)
        self._streams.add(response)
        # Never cancelled, or a stream that comes all the same would have nobody to stop it.
        await shielded(began)
        await response.when_over()

    @app.route("/attributes", methods=["GET"])
    def attributes(self, request: Request) -> bytes:
        """What is said of this host for schedulers."""
        negotiate(request, JSON)
        return json_body(request, encode_json(self._agent.attributes))

    @app.route("/attributes/<path:name>", methods=["PUT"])
    async def set_attribute(self, request: Request, name: str) -> bytes:
        """Say something of this host."""
        check_json_body(request)
        value = decode_attribute(read_body(request))
        await shielded(self._agent.set_attribute(name, value))
        return empty_body(request)

    @app.route("/attributes/<path:name>", methods=["DELETE"])
    async def remove_attribute(self, request: Request, name: str) -> bytes:
        """Say it no more."""
        await shielded(self._agent.remove_attribute(name))
        return empty_body(request)

    @app.route("/jobs/<job_id>/exec", methods=["POST"])
    def exec(self, _request: Request, job_id: str) -> IResource:
        """Run a command in a job; the connection goes on with the attach protocol."""
        return self._attach.exec(job_id)

    @app.route("/status", methods=["GET"])
    async def status(self, request: Request) -> bytes:
        """This host at a glance."""
        negotiate(request, JSON)
        facts = await self._facts()
        return json_body(request, encode_json({**self._agent.status(), **facts}))


def _signal_number(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 3 and 1 <= int(text) <= _HIGHEST_SIGNAL:
        return int(text)
    raise InvalidField("sig", f"must be the number of a signal, from 1 to {_HIGHEST_SIGNAL}, not {text!r}")
