"""Finding a place in a container's output again, or one so many entries before its end."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from attrs import define, field, frozen

from flynnhost.containers.entries import Entry, goes_on, stamp_later
from flynnhost.interfaces import LogQuery
from flynnhost.log_position import LogPosition

#: An output that begins so many seconds after an entry does not have it any more. Clocks are set
#: back by less, and the two streams are less out of order.
_SURELY_LATER = 5.0

#: So many entries are read even if what is looked for is not among them, to know how they lie in time.
_READ_ANYWAY = 5_000

#: Up to this part of the output it takes less time to read it than to count entries from the end.
_NEAR = 0.3

#: From so many entries on, all are looked at.
_ALL = 20_000_000

_CHECKPOINTS = 1000


@define(eq=False)
class Numbering:
    """Counts the entries of each stream that have the same stamp.

    :ivar index: of each stream's last entry, how many with its stamp came before it.
    """

    stamps: list[bytes] = field(factory=lambda: [b"", b"", b""])
    index: list[int] = field(factory=lambda: [0, 0, 0])

    def passed(self, entry: Entry) -> None:
        """The next entry came."""
        stream, stamp, _ = entry
        if self.stamps[stream] == stamp:
            self.index[stream] += 1
        else:
            self.stamps[stream] = stamp
            self.index[stream] = 0

    def position(self, entry: Entry) -> LogPosition:
        """Where the entry is that came last."""
        stream, stamp, data = entry
        return LogPosition(stamp, stream, self.index[stream], zlib.crc32(data), goes_on(data))


@define(eq=False)
class Search:
    """Looks for an entry in a part of the output that may begin anywhere.

    A part may begin in the middle of a long line, whose pieces then can't be told apart by counting
    them. Such an entry is only taken for the right one if it was no piece, or if there is no more to look at.

    :param wanted: the entry.
    :param tail: of how many entries from the end the part is; None for all that the engine has.
    :ivar passed: how many entries were looked at.
    :ivar in_vain: whether the rest need not be looked at.
    """

    wanted: LogPosition
    _tail: int | None
    passed: int = field(init=False, default=0)
    in_vain: bool = field(init=False, default=False)
    _first: bytes = field(init=False, default=b"")
    _last: bytes = field(init=False, default=b"")
    _others: bool = field(init=False, default=False)
    _same: int = field(init=False, default=0)

    def look(self, entries: Sequence[Entry]) -> int | None:
        """The number of the entry among these; None if it is not there."""
        wanted = self.wanted
        if not self.passed:
            self._first = entries[0][1]
            if self._tail is None:
                self.in_vain = self._first > stamp_later(wanted.stamp, _SURELY_LATER)
            else:
                self.in_vain = self._tail > _READ_ANYWAY and self._first > wanted.stamp
            if self.in_vain:
                return None
        self.passed += len(entries)
        self._last = entries[-1][1]
        stamp = wanted.stamp
        for number in [number for number, entry in enumerate(entries) if entry[1] == stamp]:
            if entries[number][0] != wanted.stream:
                continue
            if not self._others:
                self._others = any(_is_other(entry, wanted) for entry in entries[:number])
            if self._is_it(entries[number][2]):
                return number
            self._same += 1
        self._others = self._others or any(_is_other(entry, wanted) for entry in entries)
        return None

    def next_tail(self) -> int | None:
        """How many entries from the end to look at next; None for all."""
        if self._tail is None or self._tail >= _ALL or (not self.in_vain and self.passed < self._tail):
            return None
        more = self._tail * (8 if self._tail < _READ_ANYWAY else 2)
        looked_at = seconds_between(self._first, self._last) if self._last else 0.0
        if looked_at > 0:
            # If as much was written all the time as at the end.
            missing = seconds_between(self.wanted.stamp, self._last)
            more = max(more, int(1.2 * self.passed * missing / looked_at))
        return min(more, _ALL)

    def is_nearer_to(self, beginning: bytes) -> bool:
        """Whether the entry is much nearer to the beginning of the output than to where this part ended.

        :param beginning: the stamp of the first entry of all.
        """
        if not self._last:
            return False
        before = seconds_between(beginning, self.wanted.stamp)
        return before < _NEAR * seconds_between(beginning, self._last)

    def _is_it(self, data: bytes) -> bool:
        wanted = self.wanted
        if self._same != wanted.index or zlib.crc32(data) != wanted.check:
            return False
        return self._tail is None or self._others or (wanted.index == 0 and not wanted.partial)


def _is_other(entry: Entry, wanted: LogPosition) -> bool:
    return entry[0] == wanted.stream and entry[1] != wanted.stamp


@frozen
class Start:
    """From where on to read.

    :param after: the entry before; None for the beginning of all.
    :param skipped: how many entries that are wanted are passed over after that.
    :param entries: how many entries there were after that, some of which may be unwanted.
    """

    after: LogPosition | None
    skipped: int = 0
    entries: int = 0


@frozen
class _Checkpoint:
    before: LogPosition | None
    certain: bool
    wanted: int
    passed: int


@define(eq=False)
class TailSearch:
    """Finds where so many wanted entries from the end begin, in a part of the output.

    It keeps about a thousand places at most, however many entries there are.

    :param count: how many entries are wanted, from the end.
    :param streams: which streams are wanted.
    """

    _count: int
    _streams: frozenset[int]
    _passed: int = field(init=False, default=0)
    _wanted: int = field(init=False, default=0)
    _every: int = field(init=False)
    _numbering: Numbering = field(init=False, factory=Numbering)
    _first: list[bytes] = field(init=False, factory=lambda: [b"", b"", b""])
    _last: Entry | None = field(init=False, default=None)
    _checkpoints: deque[_Checkpoint] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._every = max(1, -(-self._count // _CHECKPOINTS))
        self._checkpoints = deque(maxlen=self._count // self._every + 2)

    @property
    def passed(self) -> int:
        """How many entries were looked at."""
        return self._passed

    def look(self, entries: Sequence[Entry]) -> None:
        """The next entries came."""
        for entry in entries:
            stream, stamp, _ = entry
            if stream in self._streams:
                if self._wanted % self._every == 0:
                    self._checkpoints.append(self._here())
                self._wanted += 1
            self._first[stream] = self._first[stream] or stamp
            self._numbering.passed(entry)
            self._last = entry
            self._passed += 1

    def start(self, *, whole: bool) -> Start | None:
        """Where to begin; None if more of the output has to be looked at.

        :param whole: whether what was looked at is all there is.
        """
        first = self._wanted - self._count
        if first < 0 or (first == 0 and whole):
            return Start(None) if whole else None
        if self._count == 0:
            chosen = self._here()
        else:
            chosen = next(each for each in reversed(self._checkpoints) if each.wanted <= first)
        if chosen.before is None:
            return Start(None, first - chosen.wanted) if whole else None
        if not chosen.certain and not whole:
            return None
        return Start(chosen.before, first - chosen.wanted, self._passed - chosen.passed)

    def _here(self) -> _Checkpoint:
        """The place after all that was looked at."""
        if self._last is None:
            return _Checkpoint(None, True, self._wanted, self._passed)
        position = self._numbering.position(self._last)
        certain = self._first[position.stream] != position.stamp or (
            position.index == 0 and not position.partial
        )
        return _Checkpoint(position, certain, self._wanted, self._passed)


def streams_of(query: LogQuery) -> frozenset[int]:
    """The numbers of the streams that are wanted."""
    return frozenset(number for number, wanted in ((1, query.stdout), (2, query.stderr)) if wanted)


def stamp_of(nanoseconds: int) -> bytes:
    """The stamp of a time, in nanoseconds since 1970."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z".encode("ascii")


def seconds_between(first: bytes, last: bytes) -> float:
    """The time from one stamp to another, to the microsecond."""
    begin, end = (datetime.fromisoformat(stamp[:26].decode()) for stamp in (first, last))
    return (end - begin).total_seconds()
