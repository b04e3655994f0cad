"""Somebody at the streams of a process: what attachments to jobs and commands in them have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from flynnhost.agent.errands import Errands
from flynnhost.agent.typed_input import TypedInput
from flynnhost.errors import FlynnHostError
from flynnhost.gate import Gate
from flynnhost.interfaces import IAttachClient, IAttachment

T = TypeVar("T")


@frozen
class NotToBeHad(FlynnHostError):
    """What was asked for can't be given, or not to its end.

    :param reason: what the client is told.
    """

    reason: str

    def __str__(self) -> str:
        return self.reason


class ISource(Protocol):
    """Where output comes from."""

    def pauseProducing(self) -> None:
        """Give nothing until ``resumeProducing``."""

    def resumeProducing(self) -> None:
        """Go on."""


@implementer(IAttachment)
@define(eq=False)
class Attached:
    """Serves one client, in a coroutine that ends when the client is gone.

    :param _whose: the process, for the log.
    """

    log = Logger()

    _clock: IReactorTime
    _client: IAttachClient
    _whose: str
    _typed: TypedInput
    _errands: Errands = field(init=False)
    _source: ISource | None = field(init=False, default=None)
    _paused: bool = field(init=False, default=False)
    _attached: bool = field(init=False, default=False)
    _silent: bool = field(init=False, default=False)
    _work: Deferred[None] | None = field(init=False, default=None)
    _letting_go: bool = field(init=False, default=False)
    _freed: Gate = field(init=False, factory=Gate)

    def begin(self) -> None:
        """Begin to serve the client."""
        self._work = Deferred.fromCoroutine(self._run())
        self._work.addErrback(self._broke)

    def end(self, reason: str) -> None:
        """Tell the client that it goes on no longer, and free everything."""
        self._fail(reason)
        self.detach()

    @abstractmethod
    async def _serve(self) -> None:
        """Give the client all that it wants, the last call included.

        :raises FlynnHostError: when that is not possible; the client is told.
        """

    @abstractmethod
    async def _let_go(self) -> None:
        """Free all that was used. Called once."""

    # --- IAttachment ----------------------------------------------------------

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See ``IConsumer``."""
        self._typed.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """See ``IConsumer``."""
        self._typed.unregisterProducer()

    def write(self, data: bytes) -> None:
        """See ``IConsumer``."""
        self._typed.write(data)

    def pauseProducing(self) -> None:
        """See ``IAttachment``."""
        self._paused = True
        if self._source is not None:
            self._source.pauseProducing()

    def resumeProducing(self) -> None:
        """See ``IAttachment``."""
        self._paused = False
        if self._source is not None:
            self._source.resumeProducing()

    def end_input(self) -> None:
        """See ``IAttachment``."""
        self._typed.end()

    def signal(self, number: int) -> None:
        """See ``IAttachment``."""
        self._errands.signal(number)

    def resize(self, height: int, width: int) -> None:
        """See ``IAttachment``."""
        self._errands.resize(height, width)

    def detach(self) -> None:
        """See ``IAttachment``."""
        self._silent = True
        if not self._letting_go:
            # Later: the client may say so in the middle of what the coroutine does.
            self._clock.callLater(0, self._stop)

    def when_freed(self) -> Deferred[None]:
        """See ``IAttachment``."""
        return self._freed.wait()

    # --- telling the client ---------------------------------------------------

    def _tell_attached(self) -> None:
        if not self._attached and not self._silent:
            self._attached = True
            self._tell(self._client.attached)

    def _pass_on(self, stream: int, data: bytes) -> None:
        if not self._silent:
            self._tell(self._client.output_received, stream, data)

    def _exit(self, status: int) -> None:
        if not self._silent:
            self._silent = True
            self._tell(self._client.exited, status)

    def _finish(self) -> None:
        if not self._silent:
            self._silent = True
            self._tell(self._client.finished)

    def _fail(self, reason: str) -> None:
        if not self._silent:
            self._silent = True
            self._tell(self._client.failed, reason)

    def _tell(self, call: Callable[..., None], *what: Any) -> None:
        """Tell the client. One that breaks is let go: it must not break what others listen to as well."""
        try:
            call(*what)
        except Exception:
            self.log.failure("A client of {whose} could not be told", whose=self._whose)
            self.detach()

    # --- the coroutine --------------------------------------------------------

    def _take_from(self, source: ISource | None) -> None:
        """Pause and resume this source as the client does."""
        self._source = source
        if source is not None and self._paused:
            source.pauseProducing()

    async def _run(self) -> None:
        try:
            await self._serve()
        except CancelledError:
            self._silent = True
        except FlynnHostError as e:
            self._fail(str(e))
        except Exception:
            self.log.failure("While a client was attached to {whose}", whose=self._whose)
            self._fail("something went wrong on this host; its log has more")
        self._letting_go = True
        self._source = None
        self._typed.close()
        self._errands.stop()
        try:
            await self._let_go()
        finally:
            self._freed.open()

    def _stop(self) -> None:
        if self._work is not None and not self._work.called and not self._letting_go:
            self._work.cancel()

    def _broke(self, failure: Failure) -> None:
        self.log.failure("While freeing what a client of {whose} used", failure, whose=self._whose)


def kept(work: Deferred[T], discard: Callable[[T], Any]) -> Deferred[T]:
    """A Deferred that fires as the work does. When it was cancelled before, what comes is discarded."""
    answer: Deferred[T] = Deferred()

    def came(result: T | Failure) -> None:
        if not answer.called:
            answer.callback(result)
        elif not isinstance(result, Failure):
            discard(result)

    work.addBoth(came)
    return answer
