"""Docker's framing of several streams in one: eight bytes of header, then that many bytes of data."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field

STDOUT = 1
STDERR = 2
ENGINE_ERROR = 3

_HEADER_SIZE = 8


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
        position = 0
        while position < len(data):
            if not self._left:
                position = self._take_header(data, position)
                continue
            piece = data[position : position + self._left]
            position += len(piece)
            self._left -= len(piece)
            yield self._stream, piece

    def _take_header(self, data: bytes, position: int) -> int:
        end = position + _HEADER_SIZE - len(self._header)
        self._header += data[position:end]
        if len(self._header) == _HEADER_SIZE:
            if self._header[0] > ENGINE_ERROR or any(self._header[1:4]):
                raise BadFrame(f"not the header of a frame: {bytes(self._header)!r}")
            # Docker counts what it echoes of stdin (0) as stdout.
            self._stream = self._header[0] or STDOUT
            self._left = int.from_bytes(self._header[4:], "big")
            self._header.clear()
        return min(end, len(data))
