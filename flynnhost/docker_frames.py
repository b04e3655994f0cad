"""Docker's framing of several streams in one: eight bytes of header, then that many bytes of data."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from attrs import define, field

STDOUT = 1
STDERR = 2
ENGINE_ERROR = 3

_HEADER = struct.Struct(">II")  # a byte for the stream, three zeros, the size
_HEADER_SIZE = _HEADER.size


class BadFrame(ValueError):
    """This is no stream of frames."""


@define(eq=False)
class FrameDecoder:
    """Takes a stream of frames apart, however it is cut up.

    What belongs to one frame is handed on as it comes, never collected.
    """

    _header: bytearray = field(init=False, factory=bytearray)
    _stream: int = field(init=False, default=STDOUT)
    _left: int = field(init=False, default=0)

    @property
    def between_frames(self) -> bool:
        """Whether the stream may properly end here."""
        return not self._header and not self._left

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The pieces in the next bytes, each with the number of its stream.

        :raises BadFrame: if the bytes are something else.
        """
        position, size = 0, len(data)
        while position < size:
            if not self._left:
                if self._header or size - position < _HEADER_SIZE:
                    position = self._take_header(data, position)
                else:
                    self._read_header(data, position)
                    position += _HEADER_SIZE
                continue
            piece = data[position : position + self._left]
            position += len(piece)
            self._left -= len(piece)
            yield self._stream, piece

    def _take_header(self, data: bytes, position: int) -> int:
        end = position + _HEADER_SIZE - len(self._header)
        self._header += data[position:end]
        if len(self._header) == _HEADER_SIZE:
            self._read_header(self._header, 0)
            self._header.clear()
        return min(end, len(data))

    def _read_header(self, data: bytes | bytearray, position: int) -> None:
        kind, self._left = _HEADER.unpack_from(data, position)
        stream = kind >> 24
        if stream > ENGINE_ERROR or kind & 0xFFFFFF:
            header = bytes(data[position : position + _HEADER_SIZE])
            raise BadFrame(f"not the header of a frame: {header!r}")
        # Docker counts what it echoes of stdin (0) as stdout.
        self._stream = stream or STDOUT
