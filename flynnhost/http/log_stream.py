"""A job's output as the body of a response, held back when the client is slow."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, ClassVar

from attrs import define, field
from msgspec import UNSET, Struct, UnsetType
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from flynnhost.errors import FlynnHostError, NoSuchContainer, NotReady, PositionGone
from flynnhost.http.encode import encode_json
from flynnhost.http.media import EVENTS, MULTIPLEXED, TEXT
from flynnhost.http.outflow import CLOSE_WITHIN, FLUSH_WITHIN
from flynnhost.http.relay import Relay
from flynnhost.http.sse import KEEP_ALIVE, KEEP_ALIVE_AFTER, error_frame, event_frame
from flynnhost.interfaces import IAgent, ILogStream, LogEntry, LogQuery

_STREAMS = {1: "stdout", 2: "stderr"}


class WireEntry(Struct, omit_defaults=True, gc=False):
    """A line of output, or a piece of one: its text, or its bytes if they are no UTF-8."""

    stream: str
    time: str
    data: str | UnsetType = UNSET
    base64: str | UnsetType = UNSET
    partial: bool = False


@define(eq=False)
class LogResponse:
    """Takes a job's output and passes it on as it is."""

    log = Logger()
    content_type: ClassVar[bytes] = TEXT.encode()

    _request: Request
    _clock: IReactorTime
    _job_id: str
    _relay: Relay = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._relay = Relay(self._request, self._clock)

    def start(self, agent: IAgent, query: LogQuery) -> Deferred[None]:
        """Ask for the output. Nothing is written before it is known that there is some. Fires then, and
        fails if there is none.
        """
        self._relay.start()
        return self._ask(agent, query).addCallbacks(self._streaming, self._unavailable)

    def output_received(self, stream: int, data: bytes) -> None:
        """See ``ILogReceiver.output_received``."""
        if not self._relay.stopped:
            self._begin()
            self._relay.write(self._encoded(stream, data))

    def output_ended(self, error: Exception | None) -> None:
        """See ``ILogReceiver.output_ended``."""
        self._relay.source_ended()
        if self._relay.stopped:
            return
        if error is None:
            self._begin()
            self._relay.finish()
        else:
            self.log.warn("The output of {job_id} broke off: {error}", job_id=self._job_id, error=error)
            self._break_off(error, FLUSH_WITHIN)

    def when_over(self) -> Deferred[None]:
        """See ``IOpen.when_over``."""
        return self._relay.when_over()

    def close(self) -> None:
        """See ``IOpen.close``. The client must not take this for all that there is."""
        self._break_off(NotReady("the host is stopping"), CLOSE_WITHIN)

    def _ask(self, agent: IAgent, query: LogQuery) -> Deferred[ILogStream]:
        return agent.job_output(self._job_id, query, self)

    def _encoded(self, stream: int, data: bytes) -> bytes:
        return data

    def _break_off(self, error: Exception, within: float) -> None:
        # A proper end would say that this was all.
        self._relay.cut()

    def _streaming(self, stream: ILogStream) -> None:
        if not self._relay.stopped:
            self._begin()
        self._relay.attach(stream)
        if self._request.method == b"HEAD":
            self._relay.finish()

    def _unavailable(self, failure: Failure) -> Failure | None:
        # Of no interest when the client is gone already.
        return None if self._relay.stopped and failure.check(FlynnHostError) else failure

    def _begin(self) -> None:
        if not self._request.startedWriting:
            self._request.setHeader(b"Content-Type", self.content_type)
            self._request.setHeader(b"X-Content-Type-Options", b"nosniff")
            self._request.write(b"")


@define(eq=False)
class FramedLogResponse(LogResponse):
    """Passes output on in Docker's frames, which tell the streams apart."""

    content_type: ClassVar[bytes] = MULTIPLEXED.encode()

    def _encoded(self, stream: int, data: bytes) -> bytes:
        return b"%c\0\0\0%b%b" % (stream, len(data).to_bytes(4, "big"), data)


@define(eq=False)
class EventLogResponse(LogResponse):
    """Passes output on as events, one for each line, after each of which a client can continue."""

    content_type: ClassVar[bytes] = f"{EVENTS}; charset=utf-8".encode()

    _idle: IDelayedCall | None = field(init=False, default=None)

    def entries_received(self, entries: Sequence[LogEntry]) -> None:
        """See ``IEntryReceiver.entries_received``."""
        if self._relay.stopped:
            return
        self._begin()
        self._relay.write(b"".join(map(_event, entries)))
        if self._idle is not None:
            self._idle.reset(KEEP_ALIVE_AFTER)

    def _ask(self, agent: IAgent, query: LogQuery) -> Deferred[ILogStream]:
        return agent.job_entries(self._job_id, query, self)

    def _begin(self) -> None:
        if not self._request.startedWriting:
            self._request.setHeader(b"Cache-Control", b"no-cache")
            self._idle = self._clock.callLater(KEEP_ALIVE_AFTER, self._silent)
            self._relay.when_over().addCallback(self._no_longer_idle)
        super()._begin()

    def _break_off(self, error: Exception, within: float) -> None:
        if self._relay.stopped:
            return
        if not self._request.startedWriting:
            self._relay.cut()
            return
        gone = isinstance(error, PositionGone | NoSuchContainer)
        self._relay.write(error_frame(_Gone() if gone else error))
        self._relay.finish(within)

    def _silent(self) -> None:
        self._idle = self._clock.callLater(KEEP_ALIVE_AFTER, self._silent)
        # To one who does not read, even this would be one more thing to keep.
        if not self._relay.paused:
            self._relay.write(KEEP_ALIVE)

    def _no_longer_idle(self, _: Any) -> None:
        if self._idle is not None and self._idle.active():
            self._idle.cancel()
        self._idle = None


class _Gone(Exception):
    """For programs, which look for this word."""

    def __str__(self) -> str:
        return "gone"


def _event(entry: LogEntry) -> bytes:
    position, data = entry
    line = data.removesuffix(b"\n")
    wire = WireEntry(_STREAMS[position.stream], position.stamp.decode("ascii"), partial=position.partial)
    try:
        wire.data = line.decode()
    except UnicodeDecodeError:
        wire.base64 = base64.b64encode(line).decode("ascii")
    return event_frame(str(position), encode_json(wire))


LOG_FORMS: dict[str, type[LogResponse]] = {
    TEXT: LogResponse,
    MULTIPLEXED: FramedLogResponse,
    EVENTS: EventLogResponse,
}
"""How output is answered, by the media type."""
