"""The entries of a container's output: lines as Docker keeps them, each with the time of its writing.

Docker cuts lines of more than 16 KiB into pieces, each of which is an entry; all pieces of a
line have the stamp of the first.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol

from attrs import define, field

from flynnhost.docker_frames import ENGINE_ERROR, STDOUT, BadFrame
from flynnhost.errors import EngineRefused

PIECE_BYTES = 16_384
"""Into pieces of this size Docker cuts long lines."""

_LONGEST_ENTRY = 1 << 20
_STAMP_SIZE = 30
_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(?:Z|[+-]\d\d:\d\d) ")
_LONGEST_STAMP = 36
_STAMP_FORM = "%Y-%m-%dT%H:%M:%S"

Entry = tuple[int, bytes, bytes]
"""The stream, the stamp in RFC 3339 with nine decimals and in UTC, and the data."""


class IEntryDecoder(Protocol):
    """Takes the output of a container apart, however it is cut up."""

    def feed(self, data: bytes) -> list[Entry]:
        """The entries that the next bytes complete.

        :raises BadFrame: if the bytes are something else.
        :raises EngineRefused: if the engine says in them that it can't go on.
        """

    def end(self) -> list[Entry]:
        """What is left when nothing more comes.

        :raises BadFrame: if that is no whole entry.
        """


def goes_on(data: bytes) -> bool:
    """Whether the line of an entry with this data goes on in the next entry of the stream."""
    return len(data) >= PIECE_BYTES and not data.endswith(b"\n")


@define(eq=False)
class FramedEntries:
    """The entries of a container without a TTY: each is in a frame of its own.

    :param stamped: whether the engine was asked for stamps; if not, they are empty.
    """

    _stamped: bool
    _rest: bytes = field(init=False, default=b"")

    def feed(self, data: bytes) -> list[Entry]:
        """See ``IEntryDecoder``."""
        if self._rest:
            data = self._rest + data
        entries: list[Entry] = []
        add, number, stamped = entries.append, int.from_bytes, self._stamped
        begin, size = 0, len(data)
        while begin + 8 <= size:
            stream = data[begin]
            length = number(data[begin + 1 : begin + 8], "big")
            if stream > ENGINE_ERROR or length > _LONGEST_ENTRY:
                raise BadFrame(f"not the header of a frame: {data[begin : begin + 8]!r}")
            start = begin + 8
            end = start + length
            if end > size:
                break
            begin = end
            if stream == ENGINE_ERROR:
                raise EngineRefused(data[start:end].decode(errors="replace").strip())
            if not stamped:
                add((stream or STDOUT, b"", data[start:end]))
            elif length > _STAMP_SIZE and data[start + 29] == 0x5A and data[start + 30] == 0x20:
                add((stream or STDOUT, data[start : start + 30], data[start + 31 : end]))
            else:
                add((stream or STDOUT, *_split(data[start:end])))
        self._rest = data[begin:]
        return entries

    def end(self) -> list[Entry]:
        """See ``IEntryDecoder``."""
        if self._rest:
            raise BadFrame("the output ends within a frame")
        return []


@define(eq=False)
class TtyEntries:
    """The entries of a container with a TTY: stamp, space and data, one after the other.

    Docker 20.10 loses the newline at the end of a line that it has cut into pieces, so after the last
    piece of a line comes the next stamp.
    """

    _rest: bytes = field(init=False, default=b"")
    # The stamp of a line that goes on, as it was written.
    _goes_on: bytes = field(init=False, default=b"")

    def feed(self, data: bytes) -> list[Entry]:
        """See ``IEntryDecoder``."""
        return self._take(self._rest + data, last=False)

    def end(self) -> list[Entry]:
        """See ``IEntryDecoder``."""
        return self._take(self._rest, last=True)

    def _take(self, data: bytes, *, last: bool) -> list[Entry]:
        entries: list[Entry] = []
        begin = 0
        while begin < len(data):
            if not last and len(data) - begin < _LONGEST_STAMP:
                break
            found = _STAMP.match(data, begin)
            if found is None:
                raise BadFrame(f"no stamp: {data[begin : begin + _LONGEST_STAMP]!r}")
            start = found.end()
            end = self._end(data, start, found[0], last)
            if end < 0:
                break
            piece = data[start:end]
            self._goes_on = found[0] if goes_on(piece) else b""
            entries.append((STDOUT, *_split(data[begin:end])))
            begin = end
        self._rest = data[begin:]
        return entries

    def _end(self, data: bytes, start: int, stamp: bytes, last: bool) -> int:
        """Where the entry ends whose data begins here; -1 if that is not there yet."""
        newline = data.find(b"\n", start, start + PIECE_BYTES)
        if stamp == self._goes_on:
            # As far as the stamp of the next line, if that comes before the end of this one.
            limit = newline if newline >= 0 else min(len(data), start + PIECE_BYTES + _LONGEST_STAMP)
            following = _STAMP.search(data, start, limit)
            if following is not None:
                return following.start()
        if newline >= 0:
            return newline + 1
        if len(data) - start >= PIECE_BYTES + (1 if last else _LONGEST_STAMP):
            # Bytes that are no text were replaced by more of them in the driver "json-file".
            following_piece = data.find(stamp, start + PIECE_BYTES)
            if following_piece >= 0:
                return following_piece
            newline = data.find(b"\n", start + PIECE_BYTES)
            if newline >= 0:
                return newline + 1
            if len(data) - start > _LONGEST_ENTRY:
                raise BadFrame("an entry without an end")
        return len(data) if last else -1


def _split(entry: bytes) -> tuple[bytes, bytes]:
    """The stamp and the data of an entry."""
    found = _STAMP.match(entry)
    if found is None:
        raise BadFrame(f"no stamp: {entry[:_LONGEST_STAMP]!r}")
    stamp = found[0][:-1]
    return (stamp if stamp.endswith(b"Z") else _in_utc(stamp)), entry[found.end() :]


def _in_utc(stamp: bytes) -> bytes:
    return b"%b%bZ" % (_second_in_utc(stamp[:19], stamp[29:]), stamp[19:29])


@lru_cache(maxsize=64)
def _second_in_utc(second: bytes, zone: bytes) -> bytes:
    moment = datetime.fromisoformat(f"{second.decode()}{zone.decode()}").astimezone(UTC)
    return moment.strftime(_STAMP_FORM).encode()


def stamp_later(stamp: bytes, seconds: float) -> bytes:
    """A stamp so much later; the same if there is no such time."""
    try:
        moment = datetime.fromisoformat(stamp[:19].decode()) + timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        return stamp
    return b"%b%b" % (moment.strftime(_STAMP_FORM).encode(), stamp[19:])
