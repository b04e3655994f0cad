"""The frames of Flynn's attach protocol, which both ends speak after the upgrade.

To the client go data of streams, the exit status and errors; to the host go input, signals and
sizes of the terminal. All integers are big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import TypeAlias

from attrs import define, field, frozen

PROTOCOL = b"flynn-attach/0"
"""The name by which HTTP connections are upgraded."""

ATTACHED = b"\x00"
WAITING = b"\x01"

STDIN = 0
STDOUT = 1
STDERR = 2

MAX_DATA = 16 * 1024 * 1024
"""How much data a frame may have; it is passed on as it comes, never collected."""

MAX_TEXT = 64 * 1024
"""How long an error may be."""

_ERROR = 2
_DATA = 3
_SIGNAL = 4
_EXIT = 5
_RESIZE = 6


@frozen
class Data:
    """Some bytes of a stream; none at its end."""

    stream: int
    data: bytes


@frozen
class Exited:
    """The process has ended."""

    status: int


@frozen
class Failed:
    """The other side can't go on; it says why."""

    reason: str


@frozen
class Signal:
    """The process is to get a signal."""

    number: int


@frozen
class Resize:
    """The client's terminal has this size, in characters."""

    height: int
    width: int


@frozen
class State:
    """The first byte from the host: whether the client is attached now, or has to wait."""

    attached: bool


Frame: TypeAlias = Data | Exited | Failed | Signal | Resize | State


class BadFrame(ValueError):
    """This is not what the protocol has here."""


# --- writing -----------------------------------------------------------------


def data_head(stream: int, size: int) -> bytes:
    """What comes before so many bytes of a stream."""
    return struct.pack(">BBI", _DATA, stream, size)


def data_frame(stream: int, data: bytes) -> bytes:
    """Some bytes of a stream; none for its end."""
    return data_head(stream, len(data)) + data


def exit_frame(status: int) -> bytes:
    """The end of the process, as the unsigned number that Go makes of it."""
    return struct.pack(">BI", _EXIT, status & 0xFFFFFFFF)


def error_frame(reason: str) -> bytes:
    """Why this side can't go on."""
    text = reason.encode(errors="replace")[:MAX_TEXT]
    return struct.pack(">BI", _ERROR, len(text)) + text


def signal_frame(number: int) -> bytes:
    """A signal for the process."""
    return struct.pack(">BI", _SIGNAL, number)


def resize_frame(height: int, width: int) -> bytes:
    """The size of the client's terminal."""
    return struct.pack(">BHH", _RESIZE, height, width)


# --- reading -----------------------------------------------------------------


@define(eq=False)
class FrameReader:
    """Takes frames apart, however they are cut up. Use ``reading_client`` or ``reading_host`` to make one.

    Data are handed on as they come: a frame of data that came in pieces gives several ``Data``. One
    that has none, which is the end of its stream, gives exactly one.

    :param _kinds: what may come: how many bytes a head of this kind has, and what is made of it.
    """

    _kinds: dict[int, tuple[int, Callable[[FrameReader, bytes], Frame | None]]]
    _buffer: bytearray = field(init=False, factory=bytearray)
    _stream: int = field(init=False, default=STDIN)
    _data_left: int = field(init=False, default=0)
    _text_left: int = field(init=False, default=0)

    @property
    def between_frames(self) -> bool:
        """Whether the connection may properly end here."""
        return not (self._buffer or self._data_left or self._text_left)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames, and parts of them, in the next bytes.

        :raises BadFrame: when the bytes are something else; what came before was given by then.
        """
        position = 0
        while position < len(data):
            if self._data_left:
                piece = data[position : position + self._data_left]
                self._data_left -= len(piece)
                position += len(piece)
                yield Data(self._stream, piece)
                continue
            wanted = self._text_left or self._head_size(data[position])
            piece = data[position : position + wanted - len(self._buffer)]
            self._buffer += piece
            position += len(piece)
            if len(self._buffer) == wanted:
                frame = self._complete()
                if frame is not None:
                    yield frame

    def _head_size(self, first: int) -> int:
        kind = self._buffer[0] if self._buffer else first
        if kind not in self._kinds:
            raise BadFrame(f"no frame begins with {kind}")
        return self._kinds[kind][0]

    def _complete(self) -> Frame | None:
        whole = bytes(self._buffer)
        self._buffer.clear()
        if self._text_left:
            self._text_left = 0
            return Failed(whole.decode(errors="replace"))
        return self._kinds[whole[0]][1](self, whole)

    def _take_data(self, head: bytes) -> Frame | None:
        _, self._stream, self._data_left = struct.unpack(">BBI", head)
        if self._data_left > MAX_DATA:
            raise BadFrame(f"a frame has {self._data_left} bytes of data, more than {MAX_DATA}")
        return None if self._data_left else Data(self._stream, b"")

    def _take_input(self, head: bytes) -> Frame | None:
        if head[1] != STDIN:
            raise BadFrame(f"there is no stream {head[1]} to write to")
        return self._take_data(head)

    def _take_error(self, head: bytes) -> Frame | None:
        (self._text_left,) = struct.unpack(">xI", head)
        if self._text_left > MAX_TEXT:
            raise BadFrame(f"an error has {self._text_left} bytes, more than {MAX_TEXT}")
        return None if self._text_left else Failed("")


def reading_client() -> FrameReader:
    """Reads what a client sends."""
    return FrameReader(
        {
            _DATA: (6, FrameReader._take_input),
            _SIGNAL: (5, lambda _, head: Signal(*struct.unpack(">xI", head))),
            _RESIZE: (5, lambda _, head: Resize(*struct.unpack(">xHH", head))),
        }
    )


def reading_host() -> FrameReader:
    """Reads what a host sends."""
    return FrameReader(
        {
            ATTACHED[0]: (1, lambda _, head: State(attached=True)),
            WAITING[0]: (1, lambda _, head: State(attached=False)),
            _ERROR: (5, FrameReader._take_error),
            _DATA: (6, FrameReader._take_data),
            _EXIT: (5, lambda _, head: Exited(*struct.unpack(">xI", head))),
        }
    )
