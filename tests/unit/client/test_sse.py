"""Streams of events, however they are cut up."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flynnhost.client.sse import MAX_EVENT_BYTES, BadEvents, EventReader, ServerEvent

STREAM = (
    b'data: {"a":1}\n\n'
    b":\n"
    b"id: x-1\ndata: {}\n\n"
    b"event: error\ndata: fell behind\n\n"
    b"retry: 5\n\n"
    b"data: one\r\ndata: two\r\n\r\n"
)
EVENTS = [
    ServerEvent(b'{"a":1}'),
    ServerEvent(b"{}", "x-1"),
    ServerEvent(b"fell behind", None, "error"),
    ServerEvent(b"one\ntwo"),
]


@given(st.lists(st.integers(0, len(STREAM))))
def test_cut_anywhere(cuts: list[int]) -> None:
    reader = EventReader()
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in itertools.pairwise(places)]
    assert [event for piece in pieces for event in reader.feed(piece)] == EVENTS
    assert reader.between_events


def test_the_end_in_the_middle() -> None:
    reader = EventReader()
    assert list(reader.feed(b"id: 1\n")) == []
    assert not reader.between_events


def test_events_without_end() -> None:
    """Nobody can make a client keep more than an event may have."""
    for endless in (b"x" * 70000, b"data: " + b"x" * 70000 + b"\n"):
        reader = EventReader()
        with pytest.raises(BadEvents):
            for _ in range(MAX_EVENT_BYTES // 70000 + 2):
                list(reader.feed(endless))
