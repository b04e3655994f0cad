"""Streams of events, which go on after what breaks them."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import msgspec
from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from flynnhost.client.byte_stream import ByteStream
from flynnhost.client.errors import (
    BadAnswer,
    BrokenOff,
    HostUnreachable,
    NoAnswer,
    Resync,
    StreamFailed,
    Unavailable,
)
from flynnhost.client.sse import BadEvents, EventReader, ServerEvent
from flynnhost.client.streams import Streamed

T = TypeVar("T")

Open = Callable[[Streamed], Awaitable[ByteStream]]

_PAUSES = (0.2, 1.0, 3.0, 5.0)
"""Seconds between attempts to go on, the last of them again and again."""

_LOST = (BrokenOff, HostUnreachable, NoAnswer, Unavailable)

CURRENT = "current"
"""The kind of the event after a snapshot."""


@define(eq=False)
class Events(Generic[T]):
    """The events of a stream: ``async for event in events``. Close it after use.

    When the connection breaks, it is made again, and the stream goes on after the last event that came, with
    nothing missed or told twice; but what is broken off in the middle of a snapshot begins again. It ends
    when the host ends it, as it does when it stops.

    :param open: opens the stream.
    :param kind: what events are.
    :param url: whose events they are, for errors.
    :param patience: seconds for which a stream that broke is tried to be made again.
    :ivar current: whether all has come that there was in the beginning; for streams with a snapshot.
    """

    _clock: IReactorTime
    _open: Open
    _request: Streamed
    _kind: type[T]
    _url: str
    _patience: float = 60.0
    current: bool = field(init=False, default=False)
    _last_id: str = field(init=False, default="")
    _stream: ByteStream | None = field(init=False, default=None)
    _reader: EventReader = field(init=False, factory=EventReader)
    _waiting: deque[ServerEvent] = field(init=False, factory=deque)
    _broken_since: float | None = field(init=False, default=None)
    _attempts: int = field(init=False, default=0)
    _opened: bool = field(init=False, default=False)
    _closed: bool = field(init=False, default=False)

    def __aiter__(self) -> Events[T]:
        return self

    async def __anext__(self) -> T:
        """The next event.

        :raises BrokenOff: and the like, when the stream could not be made again in time.
        :raises Resync: when it can't go on because too much happened meanwhile.
        :raises StreamFailed: when the host has ended it with an error.
        :raises ClientError: when the host refuses it.
        """
        while True:
            while self._waiting:
                event = self._waiting.popleft()
                if event.id is not None:
                    self._last_id = event.id
                if event.kind == CURRENT:
                    self.current = True
                    continue
                return self._decoded(event)
            await self._receive()

    def close(self) -> None:
        """End the stream. Whoever waits for an event is told that there are no more."""
        self._closed = True
        self._waiting.clear()
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _receive(self) -> None:
        if self._closed:
            raise StopAsyncIteration
        try:
            stream = self._stream or await self._begin()
            data = await stream.read()
        except _LOST as e:
            await self._try_again(e)
            return
        if self._closed:
            raise StopAsyncIteration
        if not data:
            if not self._reader.between_events:
                raise BrokenOff(f"the events of {self._url} broke off")
            self.close()
            return
        self._broken_since, self._attempts = None, 0
        try:
            self._waiting.extend(self._reader.feed(data))
        except BadEvents as e:
            raise BadAnswer(self._url, str(e)) from e

    async def _begin(self) -> ByteStream:
        request = self._request
        if self._last_id:
            request = evolve(request, query={**request.query, "since": self._last_id})
        elif self._broken_since is not None and request.query.get("snapshot"):
            # In the middle of a snapshot: what comes now tells the whole of it again.
            self._waiting.clear()
        self._reader = EventReader()
        stream = await self._open(request)
        self._opened = True
        if self._closed:
            stream.close()
        self._stream = stream
        return stream

    async def _try_again(self, error: Exception) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._closed:
            raise StopAsyncIteration
        now = self._clock.seconds()
        if self._broken_since is None:
            self._broken_since = now
        resumable = self._last_id or self._request.query.get("snapshot")
        if not (resumable and self._opened) or now - self._broken_since >= self._patience:
            raise error
        pause = _PAUSES[min(self._attempts, len(_PAUSES) - 1)]
        self._attempts += 1
        waiting: Deferred[None] = deferLater(self._clock, pause)
        await waiting

    def _decoded(self, event: ServerEvent) -> T:
        if event.kind == "error":
            reason = event.data.decode(errors="replace")
            self.close()
            raise Resync() if reason == "resync" else StreamFailed(reason)
        try:
            return msgspec.json.decode(event.data, type=self._kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise BadAnswer(self._url, str(e)) from e
