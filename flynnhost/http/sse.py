"""Event streams, to the byte as Flynn's clients read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.web.server import Request

from flynnhost.errors import FellBehind, ResyncNeeded
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.outflow import Outflow
from flynnhost.http.query import Query
from flynnhost.interfaces import IFeed, ISubscription

T = TypeVar("T")

KEEP_ALIVE_AFTER = 30
KEEP_ALIVE = b":\n"

#: How far a reader may be behind.
BACKLOG_EVENTS = 4096
BACKLOG_BYTES = 4 * 1024 * 1024

_CURRENT = b'event: current\ndata: {"event":"current"}\n\n'


def event_frame(event_id: str, data: bytes) -> bytes:
    """An event that can be resumed after."""
    return b"id: %b\ndata: %b\n\n" % (event_id.encode(), data)


def error_frame(error: Exception) -> bytes:
    """The last event of a stream that can't go on."""
    return b"event: error\ndata: %b\n\n" % str(error).encode()


@frozen
class Wanted:
    """Where in a feed a client wants to begin.

    :param after: the ID of the last event that it has; None for now.
    :param snapshot: whether it wants to be told first of what there is.
    """

    after: str | None = None
    snapshot: bool = False

    @classmethod
    def of(cls, request: Request) -> Wanted:
        """What the query and the headers say.

        :raises InvalidField: when a parameter has no proper value.
        """
        query = Query.of(request)
        header = request.requestHeaders.getRawHeaders(b"last-event-id", [b""])[-1]
        after = query.text("since") or header.decode("latin-1")
        return cls(after=after or None, snapshot=query.flag("snapshot"))


@define(eq=False)
class EventSource(Generic[T]):
    """Makes streams of the events of one feed.

    :param encode: the JSON of an event.
    """

    _clock: IReactorTime
    _streams: OpenStreams
    _encode: Callable[[T], bytes]
    _last: tuple[str, T, bytes] | None = field(init=False, default=None)

    def stream(
        self,
        request: Request,
        feed: IFeed[T],
        wanted: Wanted,
        present: Callable[[], Iterable[T]],
        key: str | None = None,
    ) -> Deferred[None]:
        """Answer with the events of a feed. Fires when the response is over.

        :param present: the events that bring a listener to where everything is now.
        :param key: only the events of this job or host.
        :raises NotReady: when the host is stopping.
        """
        self._streams.check()
        # All in one turn of the reactor: what there is and what comes fit together.
        stream = EventStream(self._clock, Outflow(request, self._clock), self._frame)
        first: Iterator[bytes] | None = None
        if wanted.after is not None:
            first = self._missed(stream, feed, key, wanted.after)
        else:
            if wanted.snapshot:
                first = self._snapshot(present(), feed.last_id)
            stream.listen(feed, key)
        request.setHeader(b"Content-Type", b"text/event-stream; charset=utf-8")
        request.setHeader(b"Cache-Control", b"no-cache")
        stream.start(first)
        self._streams.add(stream)
        if request.method == b"HEAD" or not stream.listening:
            stream.close()
        return stream.when_over()

    def _snapshot(self, events: Iterable[T], last_id: str) -> Iterator[bytes]:
        # No IDs here: who is cut off half way must not resume as if it had everything.
        for event in events:
            yield b"data: %b\n\n" % self._encode(event)
        yield b"id: %b\n%b" % (last_id.encode(), _CURRENT)

    def _missed(self, stream: EventStream, feed: IFeed[T], key: str | None, after: str) -> Iterator[bytes]:
        try:
            events = stream.listen(feed, key, after)
        except ResyncNeeded as e:
            return iter([error_frame(e)])
        return (event_frame(event_id, self._encode(event)) for event_id, event in events)

    def _frame(self, event_id: str, event: T) -> bytes:
        """The frame of an event, made once for all who listen."""
        if self._last is None or self._last[0] != event_id or self._last[1] is not event:
            self._last = (event_id, event, event_frame(event_id, self._encode(event)))
        return self._last[2]


@define(eq=False)
class EventStream:
    """One client's stream."""

    _clock: IReactorTime
    _out: Outflow
    _frame: Callable[[str, Any], bytes]
    _started: bool = field(init=False, default=False)
    _missed: list[tuple[str, Any]] = field(init=False, factory=list)
    _subscription: ISubscription | None = field(init=False, default=None)
    _keep_alive: IDelayedCall | None = field(init=False, default=None)

    @property
    def listening(self) -> bool:
        """Whether events come."""
        return self._subscription is not None

    def listen(self, feed: IFeed[Any], key: str | None, after: str | None = None) -> list[tuple[str, Any]]:
        """Hear of all events from now on, which ``start`` must follow in the same turn.

        :return: the events after the given one.
        :raises ResyncNeeded: when those are not kept any more.
        """
        self._subscription = feed.subscribe(self._published, key=key, after=after, ended=self.close)
        missed, self._missed = self._missed, []
        return missed

    def start(self, first: Iterator[bytes] | None) -> None:
        """Begin to write.

        :param first: what to write before any event.
        """
        self._started = True
        self._keep_alive = self._clock.callLater(KEEP_ALIVE_AFTER, self._idle)
        self._out.when_over().addCallback(lambda _: self._stop_listening())
        self._out.start(first)

    def when_over(self) -> Deferred[None]:
        """See ``IOpen.when_over``."""
        return self._out.when_over()

    def close(self) -> None:
        """See ``IOpen.close``."""
        self._stop_listening()
        self._out.close()

    def _published(self, event_id: str, event: Any) -> None:
        if not self._started:
            self._missed.append((event_id, event))
            return
        self._out.send(self._frame(event_id, event))
        if self._out.queued > BACKLOG_EVENTS or self._out.queued_bytes > BACKLOG_BYTES:
            self._stop_listening()
            self._out.cut_short(error_frame(FellBehind()))
        elif self._keep_alive is not None:
            self._keep_alive.reset(KEEP_ALIVE_AFTER)

    def _idle(self) -> None:
        self._keep_alive = self._clock.callLater(KEEP_ALIVE_AFTER, self._idle)
        # To one who does not read, even this would be one more thing to keep.
        if not self._out.busy:
            self._out.send(KEEP_ALIVE)

    def _stop_listening(self) -> None:
        if self._subscription is not None:
            self._subscription.cancel()
            self._subscription = None
        if self._keep_alive is not None and self._keep_alive.active():
            self._keep_alive.cancel()
        self._keep_alive = None
