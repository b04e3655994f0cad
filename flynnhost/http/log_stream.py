"""A job's output as the body of a response, held back when the client is slow."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from flynnhost.errors import FlynnHostError
from flynnhost.http.media import TEXT
from flynnhost.http.relay import Relay
from flynnhost.interfaces import ILogStream


@define(eq=False)
class LogResponse:
    """Takes a job's output and passes it on as it is."""

    log = Logger()

    _request: Request
    _clock: IReactorTime
    _job_id: str
    _relay: Relay = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._relay = Relay(self._request, self._clock)

    def start(self) -> None:
        """Watch for the client's leaving; nothing is written before ``streaming``."""
        self._relay.start()

    def streaming(self, stream: ILogStream) -> None:
        """The output is about to come from this stream."""
        if not self._relay.stopped:
            self._begin()
        self._relay.attach(stream)
        if self._request.method == b"HEAD":
            self._relay.finish()

    def unavailable(self, failure: Failure) -> Failure | None:
        """There is no output to come. Of no interest when the client is gone already."""
        return None if self._relay.stopped and failure.check(FlynnHostError) else failure

    def output_received(self, stream: int, data: bytes) -> None:
        """See ``ILogReceiver.output_received``."""
        if not self._relay.stopped:
            self._begin()
            self._relay.write(data)

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
            self.close()

    def when_over(self) -> Deferred[None]:
        """See ``IOpen.when_over``."""
        return self._relay.when_over()

    def close(self) -> None:
        """Cut the connection: a proper end would say that this was all."""
        self._relay.cut()

    def _begin(self) -> None:
        if not self._request.startedWriting:
            self._request.setHeader(b"Content-Type", TEXT.encode())
            self._request.setHeader(b"X-Content-Type-Options", b"nosniff")
            self._request.write(b"")
