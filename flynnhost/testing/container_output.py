"""The output of containers that exist in memory only."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from attrs import define, field

from flynnhost.errors import PositionGone
from flynnhost.interfaces import LogEntry, LogQuery
from flynnhost.log_position import LogPosition

Piece = tuple[int, bytes]

_PIECE_BYTES = 16_384


@define(eq=False)
class FakeOutput:
    """All that a container has written, as entries.

    :param keeps: how many entries are kept; None for all.
    :ivar dropped: how many are not there any more.
    """

    keeps: int | None = None
    entries: list[LogEntry] = field(factory=list)
    dropped: int = 0
    _stamps: dict[int, tuple[bytes, int]] = field(factory=dict)

    def wrote(self, piece: Piece, now: datetime) -> list[LogEntry]:
        """Something was written."""
        stream, data = piece
        added = [self._entry(stream, part, now) for part in _parts(data)]
        self.entries += added
        if self.keeps is not None:
            gone = max(0, len(self.entries) - self.keeps)
            del self.entries[:gone]
            self.dropped += gone
        return added

    def begin(self, query: LogQuery) -> int:
        """The number of the entry at which somebody begins to read.

        :raises PositionGone: when the position of the query is not there.
        """
        if query.after is not None:
            for number, entry in enumerate(self.entries):
                if entry.position == query.after:
                    return self.dropped + number + 1
            raise PositionGone
        begin = 0
        if query.tail is not None:
            wanted = [
                number for number, entry in enumerate(self.entries) if is_wanted(query, entry.position.stream)
            ]
            begin = len(self.entries)
            if query.tail:
                begin = wanted[-query.tail] if query.tail <= len(wanted) else 0
        return self.dropped + begin

    def _entry(self, stream: int, data: bytes, now: datetime) -> LogEntry:
        stamp = f"{now:%Y-%m-%dT%H:%M:%S.%f}000Z".encode()
        before, index = self._stamps.get(stream, (b"", 0))
        index = index + 1 if before == stamp else 0
        self._stamps[stream] = (stamp, index)
        partial = not data.endswith(b"\n") and len(data) == _PIECE_BYTES
        return LogEntry(LogPosition(stamp, stream, index, zlib.crc32(data), partial), data)


def is_wanted(query: LogQuery, stream: int) -> bool:
    """Whether a query is for this stream."""
    return query.stdout if stream == 1 else query.stderr


def _parts(data: bytes) -> Iterator[bytes]:
    for line in data.splitlines(keepends=True):
        bounds = [*range(0, len(line), _PIECE_BYTES), len(line)]
        for begin, end in pairwise(bounds):
            yield line[begin:end]


@define(eq=False)
class FakeLogStream:
    """An ``ILogStream`` of what a container wrote and, if that was asked for, still writes.

    :param deliver: hands entries to the receiver.
    :param end: tells the receiver of the end.
    :param next_entry: the number of the entry that comes next.
    """

    _query: LogQuery
    _output: FakeOutput
    _deliver: Callable[[LogEntry], Any]
    _end: Callable[[Exception | None], Any]
    _next: int
    paused: bool = False
    stopped: bool = False
    _begun: bool = False
    _over: bool = False
    _error: Exception | None = None
    _flushing: bool = False
    _early: bool = field(init=False)
    _last: int | None = None

    def __attrs_post_init__(self) -> None:
        self._early = self._query.since_ns is not None and self._query.after is None

    def begin(self) -> None:
        """Pass on what waits; nothing is passed on before."""
        self._begun = True
        self.flush()

    def over(self, error: Exception | None = None) -> None:
        """Nothing more will be written."""
        self._over, self._error = True, error
        self._last = self._output.dropped + len(self._output.entries)
        self.flush()

    def pauseProducing(self) -> None:
        """See ``ILogStream``."""
        self.paused = True

    def resumeProducing(self) -> None:
        """See ``ILogStream``."""
        self.paused = False
        self.flush()

    def stopProducing(self) -> None:
        """See ``ILogStream``."""
        self.stopped = True

    def flush(self) -> None:
        """Pass on what there is."""
        if self._flushing:
            return
        self._flushing = True
        try:
            while self._flowing() and (entry := self._take()) is not None:
                if self._is_wanted(entry):
                    self._deliver(entry)
        finally:
            self._flushing = False
        if self._over and self._flowing():
            self._finish(self._error)

    def _take(self) -> LogEntry | None:
        number = self._next - self._output.dropped
        if number < 0:
            self._finish(PositionGone())
            return None
        if number >= len(self._output.entries) or self._next == self._last:
            return None
        self._next += 1
        return self._output.entries[number]

    def _is_wanted(self, entry: LogEntry) -> bool:
        if self._early and self._query.since_ns is not None:
            self._early = entry.position.stamp < _stamp(self._query.since_ns)
        return not self._early and is_wanted(self._query, entry.position.stream)

    def _finish(self, error: Exception | None) -> None:
        self.stopped = True
        self._end(error)

    def _flowing(self) -> bool:
        return self._begun and not self.paused and not self.stopped


def _stamp(nanoseconds: int) -> bytes:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z".encode()
