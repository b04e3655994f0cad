"""Streams of frames, cut up in every way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flynnhost.etcd.frames import FrameSplitter, FrameTooLong


def frames(data: bytes, sizes: list[int]) -> list[dict[str, Any]]:
    """What is in a stream that comes in pieces of these sizes, then in one."""
    splitter = FrameSplitter(10_000_000)
    found: list[dict[str, Any]] = []
    for size in sizes:
        found += splitter.feed(data[:size])
        data = data[size:]
    found += splitter.feed(data)
    found += splitter.finish()
    return found


@given(
    st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=50)), max_size=5),
    st.lists(st.integers(0, 40)),
    st.booleans(),
)
def test_cut_anywhere(expected: list[dict[str, str]], sizes: list[int], ended: bool) -> None:
    """However the network cuts the stream, the frames are the same, the last one also without its end."""
    data = b"\n".join(json.dumps(each).encode() for each in expected) + b"\n" * ended
    assert frames(data, sizes) == expected


@pytest.mark.parametrize("size", [7, 1447, 16_384, 65_536, 1_000_000])
def test_long_frames(size: int) -> None:
    """Frames far longer than a line or a packet come out whole."""
    expected = [{"value": "x" * 20_000, "n": n} for n in range(20)]
    data = b"".join(json.dumps(each).encode() + b"\n" for each in expected)
    assert frames(data, [size] * (len(data) // size)) == expected


def test_too_long() -> None:
    """What never ends is not kept for ever."""
    splitter = FrameSplitter(1000)
    assert list(splitter.feed(b'{"a":"' + b"x" * 900 + b'"}\n')) != []
    with pytest.raises(FrameTooLong):
        for _ in range(100):
            list(splitter.feed(b"x" * 100))


@pytest.mark.parametrize("bad", [b"garbage\n", b"[1]\n", b"{]\n", b"\xff\n"])
def test_no_frames(bad: bytes) -> None:
    """What is no frame is said to be none, after the frames before it."""
    stream = FrameSplitter(1000).feed(b'{"n":1}\n' + bad)
    assert next(stream) == {"n": 1}
    with pytest.raises(ValueError):
        next(stream)
