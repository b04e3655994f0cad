"""The engine's output taken apart: chunks, frames and stamps, however they are cut up."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flynnhost.containers.chunks import BadChunk, ChunkDecoder
from flynnhost.containers.entries import PIECE_BYTES, Entry, FramedEntries, IEntryDecoder, TtyEntries
from flynnhost.docker_frames import BadFrame
from flynnhost.errors import EngineRefused, InvalidField
from flynnhost.log_position import LogPosition

PLACES = st.lists(st.integers(0, 1_000_000), max_size=20)
LINES = st.lists(
    st.one_of(
        st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"")),
        st.sampled_from([PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 5, 2 * PIECE_BYTES, 40_000]).map(
            lambda size: b"x" * size
        ),
    ),
    max_size=6,
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data cut at these places."""
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(bounds)]


def stamp(number: int) -> bytes:
    return b"2026-11-24T01:%02d:%02d.%09dZ" % (number // 60 % 60, number % 60, number)


def entries_of(lines: list[bytes], *, keeps_newlines: bool) -> list[Entry]:
    """The entries that Docker makes of lines; version 20.10 loses the newline of those that it cuts."""
    entries: list[Entry] = []
    for number, line in enumerate(lines):
        pieces = [line[begin : begin + PIECE_BYTES] for begin in range(0, len(line), PIECE_BYTES)] or [b""]
        if len(line) % PIECE_BYTES == 0 and line:
            pieces.append(b"")
        if len(pieces) == 1 or keeps_newlines:
            pieces[-1] += b"\n"
        entries += [(1, stamp(number), piece) for piece in pieces]
    return entries


def fed(decoder: IEntryDecoder, data: bytes, places: list[int]) -> list[Entry]:
    """What the decoder makes of data that is cut up."""
    entries: list[Entry] = []
    for part in cut(data, places):
        entries += decoder.feed(part)
    return entries + decoder.end()


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


class TestChunks:
    @given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), PLACES)
    def test_any_cuts(self, chunks: list[bytes], places: list[int]) -> None:
        """However the body is cut up, every byte comes once and in order, and the end is known."""
        body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        decoder = ChunkDecoder()
        assert b"".join(decoder.feed(part) for part in cut(body, places)) == b"".join(chunks)
        assert decoder.finished

    @given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=4), st.integers(1, 1000))
    def test_incomplete(self, chunks: list[bytes], missing: int) -> None:
        """A body without its last chunk has not come to its end."""
        body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        decoder = ChunkDecoder()
        decoder.feed(body[: max(0, len(body) - missing)])
        assert not decoder.finished

    @pytest.mark.parametrize("data", [b"nonsense\r\n", b"-1\r\n", b"\r\n", b"x" * 100])
    def test_nonsense(self, data: bytes) -> None:
        """What is not chunked is not taken for chunks."""
        with pytest.raises(BadChunk):
            ChunkDecoder().feed(data)

    def test_extensions(self) -> None:
        """What may stand behind a size does not matter."""
        assert ChunkDecoder().feed(b"3;a=b\r\nabc\r\n") == b"abc"


class TestFramed:
    @given(st.lists(st.tuples(st.integers(1, 2), st.binary(max_size=50)), max_size=8), PLACES)
    def test_any_cuts(self, written: list[tuple[int, bytes]], places: list[int]) -> None:
        """However the output is cut up, every entry comes with its stream and stamp."""
        expected = [(stream, stamp(number), data) for number, (stream, data) in enumerate(written)]
        body = b"".join(frame(stream, b"%b %b" % (when, data)) for stream, when, data in expected)
        assert fed(FramedEntries(True), body, places) == expected

    @given(st.lists(st.tuples(st.integers(1, 2), st.binary(max_size=50)), max_size=8), PLACES)
    def test_without_stamps(self, written: list[tuple[int, bytes]], places: list[int]) -> None:
        """Without stamps each frame is an entry."""
        body = b"".join(frame(*each) for each in written)
        assert fed(FramedEntries(False), body, places) == [(stream, b"", data) for stream, data in written]

    def test_other_time_zone(self) -> None:
        """An engine may have a time zone of its own; stamps are in UTC all the same."""
        data = frame(1, b"2026-11-24T03:00:01.123456789+05:30 late\n")
        assert FramedEntries(True).feed(data) == [(1, b"2026-11-23T21:30:01.123456789Z", b"late\n")]

    def test_stdin_is_stdout(self) -> None:
        """What Docker echoes of the input counts as output."""
        assert FramedEntries(False).feed(frame(0, b"x")) == [(1, b"", b"x")]

    def test_refusal(self) -> None:
        """The engine may say in the middle that it can't go on."""
        with pytest.raises(EngineRefused, match="it broke"):
            FramedEntries(True).feed(frame(3, b"it broke\n"))

    @pytest.mark.parametrize(
        "data",
        [
            b"plain text",
            b"\x01\x00\x00\x01\x00\x00\x00\x01x",
            b"\x04" + bytes(7),
            frame(1, b"no stamp"),
            frame(1, b""),
            b"\x01\x00\x00\x00\xff\xff\xff\xff",
        ],
    )
    def test_nonsense(self, data: bytes) -> None:
        """What is not framed, or has no stamp, is not taken for output."""
        with pytest.raises(BadFrame):
            FramedEntries(True).feed(data)

    def test_incomplete(self) -> None:
        """Output that ends within a frame is known to be incomplete."""
        decoder = FramedEntries(False)
        decoder.feed(frame(1, b"abc")[:-1])
        with pytest.raises(BadFrame):
            decoder.end()


class TestTty:
    @given(LINES, PLACES, st.booleans())
    def test_any_cuts(self, lines: list[bytes], places: list[int], keeps_newlines: bool) -> None:
        """However the output is cut up, every line and every piece of a line is an entry."""
        expected = entries_of(lines, keeps_newlines=keeps_newlines)
        body = b"".join(b"%b %b" % (when, data) for _, when, data in expected)
        assert fed(TtyEntries(), body, places) == expected

    @given(PLACES)
    def test_last_line(self, places: list[int]) -> None:
        """A last line without a newline is an entry."""
        body = b"%b first\r\n%b last" % (stamp(1), stamp(2))
        assert fed(TtyEntries(), body, places) == [(1, stamp(1), b"first\r\n"), (1, stamp(2), b"last")]

    def test_longer_pieces(self) -> None:
        """The driver "json-file" makes pieces longer when it replaces bytes."""
        piece = "\N{REPLACEMENT CHARACTER}".encode() * PIECE_BYTES
        body = b"%b %b%b rest\n" % (stamp(1), piece, stamp(1))
        assert fed(TtyEntries(), body, [30_000]) == [(1, stamp(1), piece), (1, stamp(1), b"rest\n")]

    def test_nonsense(self) -> None:
        """What has no stamp is not taken for output."""
        with pytest.raises(BadFrame):
            TtyEntries().feed(b"plain text that is long enough to have a stamp")
        with pytest.raises(BadFrame):
            TtyEntries().feed(stamp(1) + b" " + b"x" * 2_000_000)


class TestPosition:
    @given(
        st.integers(0, 3599),
        st.integers(1, 2),
        st.integers(0, 10**9 - 1),
        st.integers(0, 2**32 - 1),
        st.booleans(),
    )
    def test_text(self, when: int, stream: int, index: int, check: int, partial: bool) -> None:
        """A position can be written down and read again."""
        position = LogPosition(stamp(when), stream, index, check, partial)
        assert LogPosition.parse(str(position), "since") == position

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "x",
            "20261124010101000000001-3-0-00000000",
            "20261124010101000000001-1-0-0000000g",
            "1-1-1-1",
            "20261324010101000000001-1-0-00000000",
        ],
    )
    def test_nonsense(self, text: str) -> None:
        """What is no position is refused by the name of its field."""
        with pytest.raises(InvalidField, match="since must be"):
            LogPosition.parse(text, "since")
