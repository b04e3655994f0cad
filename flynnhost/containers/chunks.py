"""HTTP's chunked coding, taken apart quickly: Docker sends a chunk for each line of output."""

from __future__ import annotations

from attrs import define, field

_LONGEST_SIZE = 64


class BadChunk(ValueError):
    """This is not chunked coding."""


@define(eq=False)
class ChunkDecoder:
    """Takes a chunked body apart, however it is cut up.

    :ivar finished: whether the last chunk has come.
    """

    finished: bool = field(init=False, default=False)
    # What has come of a size, with the end of the chunk before it.
    _rest: bytes = field(init=False, default=b"")
    # How much is still to come of a chunk that has begun, with the two bytes at its end.
    _left: int = field(init=False, default=0)

    def feed(self, data: bytes) -> bytes:
        """What of the body is in the next bytes.

        :raises BadChunk: if the bytes are something else.
        """
        if self.finished:
            return b""
        if self._rest:
            data, self._rest = self._rest + data, b""
        pieces: list[bytes] = []
        add, find, size = pieces.append, data.find, len(data)
        begin = 0
        if self._left:
            begin = min(self._left, size)
            # The end of a chunk is two bytes, of which any number may be here.
            add(data[: max(0, begin - max(0, 2 - (self._left - begin)))])
            self._left -= begin
        while begin < size:
            end_of_line = find(b"\r\n", begin, begin + _LONGEST_SIZE)
            if end_of_line < 0:
                if size - begin >= _LONGEST_SIZE:
                    raise BadChunk("a chunk without a size")
                self._rest = data[begin:]
                break
            length = _size(data[begin:end_of_line])
            if length == 0:
                self.finished = True
                break
            start = end_of_line + 2
            end = start + length
            add(data[start:end])
            begin = end + 2
            if begin > size:
                self._left = begin - size
        return b"".join(pieces)


def _size(text: bytes) -> int:
    try:
        length = int(text, 16)
    except ValueError:
        length = -1
        if b";" in text:
            return _size(text.partition(b";")[0])
    if length < 0:
        raise BadChunk(f"not the size of a chunk: {text!r}")
    return length
