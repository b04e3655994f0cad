"""A response whose body comes from elsewhere, and is passed on as fast as the client takes it."""

from __future__ import annotations

from typing import Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.web.server import Request
from zope.interface import implementer

from flynnhost.gate import Gate
from flynnhost.http.connection import cut


class ISource(Protocol):
    """Where a body comes from."""

    def pauseProducing(self) -> None:
        """Send nothing until ``resumeProducing``."""

    def resumeProducing(self) -> None:
        """Go on after ``pauseProducing``."""

    def stopProducing(self) -> None:
        """Send nothing any more, and free all there is."""


@implementer(IPushProducer)
@define(eq=False)
class Relay:
    """Passes a body on as it comes, and holds its source back when the client is slow.

    :ivar stopped: whether nothing is passed on any more.
    """

    _request: Request
    _clock: IReactorTime
    stopped: bool = field(init=False, default=False)
    _source: ISource | None = field(init=False, default=None)
    _paused: bool = field(init=False, default=False)
    _ending: bool = field(init=False, default=False)
    _over: Gate = field(init=False, factory=Gate)
    _deadline: IDelayedCall | None = field(init=False, default=None)

    @property
    def paused(self) -> bool:
        """Whether the client does not take more for now."""
        return self._paused

    def start(self) -> None:
        """Watch for the client's leaving."""
        self._request.notifyFinish().addBoth(lambda _: self._is_over())

    def attach(self, source: ISource) -> None:
        """Hold this source back from now on; if nothing is passed on any more, stop it."""
        if self.stopped:
            source.stopProducing()
            return
        self._source = source
        self._request.registerProducer(self, True)

    def write(self, data: bytes) -> None:
        """Pass some of the body on."""
        if not self.stopped:
            self._request.write(data)

    def finish(self, within: float | None = None) -> None:
        """End the response in an orderly way. The source is stopped, if it has not ended by itself.

        :param within: seconds that the client has to take what was written, before the connection
            is cut; None to leave that to the connection.
        """
        if self.stopped:
            return
        self._stop()
        if within is not None and self._paused:
            self._ending = True
            self._deadline = self._clock.callLater(within, cut, self._request)
        else:
            self._finish()

    def source_ended(self) -> None:
        """The source has ended by itself, and is not to be stopped."""
        self._source = None

    def cut(self) -> None:
        """Cut the connection, for the client to see that something is missing."""
        if not self.stopped:
            self._stop()
            cut(self._request)

    def when_over(self) -> Deferred[None]:
        """See ``IOpen.when_over``."""
        return self._over.wait()

    def pauseProducing(self) -> None:
        """The client does not take more for now."""
        self._paused = True
        if self._source is not None:
            self._source.pauseProducing()

    def resumeProducing(self) -> None:
        """The client took all there was."""
        self._paused = False
        if self._source is not None:
            self._source.resumeProducing()
        elif self._ending:
            self._finish()

    def stopProducing(self) -> None:
        """The client is gone, of which the request is told next."""
        self._ending = False
        self._stop()

    def _finish(self) -> None:
        self._ending = False
        self._request.unregisterProducer()
        self._request.finish()

    def _stop(self) -> None:
        self.stopped = True
        source, self._source = self._source, None
        if source is not None:
            source.stopProducing()

    def _is_over(self) -> None:
        # Only now may anyone go on: before the request knows, they would try to finish it.
        self._stop()
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._over.open()
