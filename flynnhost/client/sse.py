"""Reads event streams."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field, frozen

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""How long an event may be: some times the largest job."""


@frozen
class ServerEvent:
    """An event as it stands in a stream.

    :param id: what to resume after; None if it has no ID.
    :param kind: what stands behind ``event:``, else empty.
    """

    data: bytes
    id: str | None = None
    kind: str = ""


class BadEvents(ValueError):
    """This is no stream of events."""


@define(eq=False)
class EventReader:
    """Takes a stream of events apart, however it is cut up."""

    _rest: bytes = field(init=False, default=b"")
    _data: list[bytes] = field(init=False, factory=list)
    _size: int = field(init=False, default=0)
    _id: str | None = field(init=False, default=None)
    _kind: str = field(init=False, default="")

    @property
    def between_events(self) -> bool:
        """Whether the stream may properly end here."""
        return not (self._rest or self._data or self._kind) and self._id is None

    def feed(self, data: bytes) -> Iterator[ServerEvent]:
        """The events that are complete with these bytes.

        :raises BadEvents: when one gets too long.
        """
        *lines, self._rest = (self._rest + data).split(b"\n") if b"\n" in data else [self._rest + data]
        if len(self._rest) > MAX_EVENT_BYTES:
            raise BadEvents(f"a line of more than {MAX_EVENT_BYTES} bytes")
        for line in lines:
            event = self._line(line.removesuffix(b"\r"))
            if event is not None:
                yield event

    def _line(self, line: bytes) -> ServerEvent | None:
        if not line:
            return self._end()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._size += len(value)
            if self._size > MAX_EVENT_BYTES:
                raise BadEvents(f"an event of more than {MAX_EVENT_BYTES} bytes")
            self._data.append(value)
        elif name == b"id":
            self._id = value.decode(errors="replace")
        elif name == b"event":
            self._kind = value.decode(errors="replace")
        return None

    def _end(self) -> ServerEvent | None:
        event = ServerEvent(b"\n".join(self._data), self._id, self._kind) if self._data else None
        self._data, self._size, self._id, self._kind = [], 0, None, ""
        return event
