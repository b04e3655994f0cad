"""Where output is kept on disk until all have read it: in files without a name, a few megabytes each.

They are gone with the process, however it ends. All that touches the disk runs in threads.
"""

from __future__ import annotations

import errno
import os
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

from attrs import define, field, frozen
from twisted.internet.defer import Deferred

from flynnhost.threads import IThreads

Piece = tuple[int, bytes]
"""Some bytes of output, after the stream that they were written to."""

SEGMENT_BYTES = 16 * 1024 * 1024
"""How much goes into a file before the next is begun."""

KEEP_FREE_BYTES = 256 * 1024 * 1024
KEEP_FREE_SHARE = 0.05
"""What is left to others of the file system, whichever is less: the job journal is on it too."""

_HEAD = struct.Struct(">BI")


@define(eq=False)
class Segment:
    """One file.

    :ivar size: how many bytes were written to it.
    :ivar blocks: how many blocks in it are still wanted.
    :ivar busy: how many threads work on it.
    """

    size: int = 0
    blocks: int = 0
    busy: int = 0
    _descriptor: int = field(init=False, default=-1)

    def thd_write(self, directory: Path, data: bytes) -> None:
        """Put something at the end. Makes the file if need be.

        :raises OSError: when it can't be kept.
        """
        if self._descriptor < 0:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory) as file:
                self._descriptor = os.dup(file.fileno())
        self._check_space(len(data))
        left = memoryview(data)
        while left:
            written = os.pwrite(self._descriptor, left, self.size)
            self.size += written
            left = left[written:]

    def thd_read(self, start: int, length: int) -> bytes:
        """What is at a place.

        :raises OSError: when it can't be read.
        """
        data = os.pread(self._descriptor, length, start)
        while len(data) < length:
            more = os.pread(self._descriptor, length - len(data), start + len(data))
            if not more:
                raise OSError(errno.EIO, "a file of output is shorter than it was")
            data += more
        return data

    def close(self) -> None:
        """Give the space back. Nobody may work on it any more."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _check_space(self, wanted: int) -> None:
        system = os.fstatvfs(self._descriptor)
        free = system.f_bavail * system.f_frsize - wanted
        if free < min(KEEP_FREE_BYTES, KEEP_FREE_SHARE * system.f_blocks * system.f_frsize):
            raise OSError(errno.ENOSPC, "too little space is left")


@frozen
class Place:
    """Where a block is."""

    segment: Segment
    start: int
    length: int

    def followed_by(self, other: Place) -> bool:
        """Whether both can be read in one go."""
        return other.segment is self.segment and other.start == self.start + self.length


@define(eq=False)
class SpoolFiles:
    """The files of one spool; blocks come and go in the order of their writing.

    :param directory: where they are made.
    """

    _threads: IThreads
    _directory: Path
    _segment: Segment = field(init=False, factory=Segment)

    def write(self, blocks: Sequence[Sequence[Piece]]) -> Deferred[list[Place]]:
        """Keep some blocks; one call at a time. Fires with where they are.

        :raises OSError: (as the Deferred's failure) when they can't be kept.
        """
        if self._segment.size >= SEGMENT_BYTES:
            self._drop_segment()
        segment = self._segment
        segment.busy += 1

        def written(places: list[Place]) -> list[Place]:
            segment.blocks += len(places)
            return places

        def over(result: object) -> object:
            segment.busy -= 1
            self._tidy(segment)
            return result

        wanted = self._threads.run(_thd_write, segment, self._directory, blocks)
        return wanted.addCallback(written).addBoth(over)

    def read(self, places: Sequence[Place]) -> Deferred[list[Piece]]:
        """Fires with what is in blocks that follow one another.

        :raises OSError: (as the Deferred's failure) when they can't be read.
        """
        segment = places[0].segment
        segment.busy += 1

        def over(result: object) -> object:
            segment.busy -= 1
            self._tidy(segment)
            return result

        length = sum(place.length for place in places)
        return self._threads.run(_thd_read, segment, places[0].start, length).addBoth(over)

    def forget(self, place: Place) -> None:
        """A block is not wanted any more."""
        place.segment.blocks -= 1
        self._tidy(place.segment)

    def close(self) -> None:
        """Keep nothing more. What was kept is still to be forgotten."""
        self._drop_segment()

    def _drop_segment(self) -> None:
        segment, self._segment = self._segment, Segment()
        self._tidy(segment)

    def _tidy(self, segment: Segment) -> None:
        if segment.blocks or segment.busy:
            return
        if segment is self._segment:
            self._segment = Segment()
        segment.close()


def _thd_write(segment: Segment, directory: Path, blocks: Sequence[Sequence[Piece]]) -> list[Place]:
    places: list[Place] = []
    start = segment.size
    written = b"".join(part for block in blocks for part in _encoded(block))
    for block in blocks:
        length = sum(_HEAD.size + len(data) for _, data in block)
        places.append(Place(segment, start, length))
        start += length
    segment.thd_write(directory, written)
    return places


def _thd_read(segment: Segment, start: int, length: int) -> list[Piece]:
    data = segment.thd_read(start, length)
    pieces: list[Piece] = []
    position = 0
    while position < length:
        stream, size = _HEAD.unpack_from(data, position)
        position += _HEAD.size
        pieces.append((stream, data[position : position + size]))
        position += size
    return pieces


def _encoded(block: Sequence[Piece]) -> list[bytes]:
    return [part for stream, data in block for part in (_HEAD.pack(stream, len(data)), data)]
