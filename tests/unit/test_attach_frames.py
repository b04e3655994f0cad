"""The frames of the attach protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flynnhost.attach_frames import (
    ATTACHED,
    MAX_DATA,
    MAX_TEXT,
    STDIN,
    STDOUT,
    WAITING,
    BadFrame,
    Data,
    Exited,
    Failed,
    Frame,
    FrameReader,
    Resize,
    Signal,
    State,
    data_frame,
    data_head,
    error_frame,
    exit_frame,
    reading_client,
    reading_host,
    resize_frame,
    signal_frame,
)


def read(reader: FrameReader, *pieces: bytes) -> list[Frame]:
    """All that comes of these pieces."""
    return [frame for piece in pieces for frame in reader.feed(piece)]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (ATTACHED, State(attached=True)),
        (WAITING, State(attached=False)),
        (data_frame(STDOUT, b"hello"), Data(1, b"hello")),
        (data_frame(2, b""), Data(2, b"")),
        (exit_frame(0), Exited(0)),
        (exit_frame(137), Exited(137)),
        (exit_frame(-1), Exited(0xFFFFFFFF)),
        (error_frame("no such job: é"), Failed("no such job: é")),
        (error_frame(""), Failed("")),
    ],
)
def test_from_the_host(frame: bytes, expected: Frame) -> None:
    """What a host writes, a client reads."""
    reader = reading_host()
    assert read(reader, frame) == [expected]
    assert reader.between_frames


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (data_frame(STDIN, b"ls\n"), Data(0, b"ls\n")),
        (data_frame(STDIN, b""), Data(0, b"")),
        (signal_frame(15), Signal(15)),
        (resize_frame(24, 80), Resize(24, 80)),
    ],
)
def test_from_the_client(frame: bytes, expected: Frame) -> None:
    """What a client writes, a host reads."""
    reader = reading_client()
    assert read(reader, frame) == [expected]
    assert reader.between_frames


def test_bytes_on_the_wire() -> None:
    """The frames are Flynn's, byte for byte."""
    assert data_frame(STDOUT, b"ab") == bytes.fromhex("0301 00000002") + b"ab"
    assert data_head(2, 2**20) == bytes.fromhex("0302 00100000")
    assert exit_frame(3) == bytes.fromhex("05 00000003")
    assert error_frame("no") == bytes.fromhex("02 00000002") + b"no"
    assert signal_frame(2) == bytes.fromhex("04 00000002")
    assert resize_frame(24, 80) == bytes.fromhex("06 0018 0050")


@pytest.mark.parametrize(
    ("reader", "data", "words"),
    [
        (reading_host, b"\x04\x00\x00\x00\x01", "begins with 4"),
        (reading_host, b"\xff", "begins with 255"),
        (reading_host, b"\x02" + (MAX_TEXT + 1).to_bytes(4), f"more than {MAX_TEXT}"),
        (reading_client, b"\x05\x00\x00\x00\x01", "begins with 5"),
        (reading_client, data_frame(STDOUT, b"x"), "no stream 1 to write to"),
        (reading_client, data_head(STDIN, MAX_DATA + 1), f"more than {MAX_DATA}"),
    ],
)
def test_nonsense(reader: Callable[[], FrameReader], data: bytes, words: str) -> None:
    """What the protocol does not have is refused, in words."""
    with pytest.raises(BadFrame, match=words):
        read(reader(), data)


def test_frames_before_nonsense_are_read() -> None:
    """What came before the nonsense counts."""
    frames = reading_host().feed(exit_frame(1) + b"\xff")
    assert next(frames) == Exited(1)
    with pytest.raises(BadFrame):
        next(frames)


def test_a_long_error_is_cut() -> None:
    """No error is longer than what the other side reads."""
    (frame,) = read(reading_host(), error_frame("x" * (MAX_TEXT + 5)))
    assert frame == Failed("x" * MAX_TEXT)


_frames = st.lists(
    st.one_of(
        st.binary(max_size=20).map(lambda data: (data_frame(STDOUT, data), Data(STDOUT, data))),
        st.integers(0, 2**32 - 1).map(lambda status: (exit_frame(status), Exited(status))),
        st.text(max_size=9).map(lambda text: (error_frame(text), Failed(text))),
    ),
    max_size=6,
)


@given(_frames, st.lists(st.integers(1, 9), max_size=40))
def test_any_cut(frames: list[tuple[bytes, Frame]], sizes: list[int]) -> None:
    """However the stream is cut up, the same is read; only data come in more pieces."""
    stream = b"".join(encoded for encoded, _ in frames)
    pieces = []
    for size in sizes:
        pieces.append(stream[:size])
        stream = stream[size:]
    reader = reading_host()
    assert joined(read(reader, *pieces, stream)) == joined(expected for _, expected in frames)
    assert reader.between_frames


def joined(frames: Iterable[Frame]) -> list[Frame]:
    """The same with neighbouring data of one stream put together; an end stays by itself."""
    result: list[Frame] = []
    for frame in frames:
        last = result[-1] if result else None
        if isinstance(frame, Data) and isinstance(last, Data) and frame.data and last.data:
            result[-1] = Data(frame.stream, last.data + frame.data)
        else:
            result.append(frame)
    return result
