"""A job's output as the body of a response, held back when the client is slow."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request
from zope.interface import implementer

from flynnhost.errors import FlynnHostError
from flynnhost.gate import Gate
from flynnhost.http.connection import cut
from flynnhost.http.media import TEXT
from flynnhost.interfaces import ILogStream


@implementer(IPushProducer)
@define(eq=False)
class LogResponse:
    """Takes a job's output and passes it on as it is."""

    log = Logger()

    _request: Request
    _job_id: str
    _stream: ILogStream | None = field(init=False, default=None)
    _stopped: bool = field(init=False, default=False)
    _over: Gate = field(init=False, factory=Gate)

    def start(self) -> None:
        """Watch for the client's leaving; nothing is written before ``streaming``."""
        self._request.notifyFinish().addBoth(lambda _: self._is_over())

    def streaming(self, stream: ILogStream) -> None:
        """The output is about to come from this stream."""
        if self._stopped:
            stream.stopProducing()
            return
        self._stream = stream
        self._begin()
        if self._request.method == b"HEAD":
            self._finish()
            return
        self._request.registerProducer(self, True)

    def unavailable(self, failure: Failure) -> Failure | None:
        """There is no output to come. Of no interest when the client is gone already."""
        return None if self._stopped and failure.check(FlynnHostError) else failure

    def output_received(self, stream: int, data: bytes) -> None:
        """See ``ILogReceiver.output_received``."""
        if not self._stopped:
            self._begin()
            self._request.write(data)

    def output_ended(self, error: Exception | None) -> None:
        """See ``ILogReceiver.output_ended``."""
        self._stream = None
        if self._stopped:
            return
        if error is None:
            self._begin()
            self._finish()
        else:
            self.log.warn("The output of {job_id} broke off: {error}", job_id=self._job_id, error=error)
            self.close()

    def when_over(self) -> Deferred[None]:
        """See ``IOpen.when_over``."""
        return self._over.wait()

    def close(self) -> None:
        """Cut the connection: a proper end would say that this was all."""
        if not self._stopped:
            self._stop()
            cut(self._request)

    def pauseProducing(self) -> None:
        """The client does not take more for now."""
        if self._stream is not None:
            self._stream.pauseProducing()

    def resumeProducing(self) -> None:
        """The client took all there was."""
        if self._stream is not None:
            self._stream.resumeProducing()

    def stopProducing(self) -> None:
        """The client is gone, of which the request is told next."""
        self._stop()

    def _begin(self) -> None:
        if not self._request.startedWriting:
            self._request.setHeader(b"Content-Type", TEXT.encode())
            self._request.setHeader(b"X-Content-Type-Options", b"nosniff")
            self._request.write(b"")

    def _finish(self) -> None:
        self._request.unregisterProducer()
        self._request.finish()

    def _stop(self) -> None:
        """Write nothing any more."""
        self._stopped = True
        if self._stream is not None:
            self._stream.stopProducing()
            self._stream = None

    def _is_over(self) -> None:
        # Only now may anyone go on: before the request knows, they would try to finish it.
        self._stop()
        self._over.open()
