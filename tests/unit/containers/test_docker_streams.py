"""Streams that come in pieces: frames of output, lines of JSON, the progress of a pull."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flynnhost.containers.json_lines import json_lines
from flynnhost.containers.pull_progress import PullProgress
from flynnhost.containers.references import ImageReference
from flynnhost.docker_frames import BadFrame, FrameDecoder


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data cut at these places."""
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(bounds)]


def joined(pieces: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """The pieces with neighbours of one stream put together."""
    result: list[tuple[int, bytes]] = []
    for stream, data in pieces:
        if data and result and result[-1][0] == stream:
            result[-1] = (stream, result[-1][1] + data)
        elif data:
            result.append((stream, data))
    return result


class TestFrames:
    @given(
        st.lists(st.tuples(st.integers(1, 3), st.binary(max_size=40)), max_size=8),
        st.lists(st.integers(0, 1000), max_size=20),
    )
    def test_any_cuts(self, frames: list[tuple[int, bytes]], places: list[int]) -> None:
        """However the stream is cut up, every byte comes on its stream and in order."""
        decoder = FrameDecoder()
        pieces: list[tuple[int, bytes]] = []
        for chunk in cut(b"".join(frame(*each) for each in frames), places):
            pieces += decoder.feed(chunk)
        assert joined(pieces) == joined(frames)
        assert decoder.between_frames

    @given(st.binary(min_size=1, max_size=40), st.integers(1, 47))
    def test_incomplete(self, data: bytes, missing: int) -> None:
        """A stream that ends within a frame is known to be incomplete."""
        whole = frame(1, data)
        decoder = FrameDecoder()
        list(decoder.feed(whole[: max(1, len(whole) - missing)]))
        assert not decoder.between_frames

    def test_nothing_is_kept(self) -> None:
        """The data of a frame of any size is passed on as it comes."""
        decoder = FrameDecoder()
        header = bytes([1, 0, 0, 0]) + (4_000_000_000).to_bytes(4, "big")
        assert list(decoder.feed(header + b"abc")) == [(1, b"abc")]
        assert list(decoder.feed(b"def")) == [(1, b"def")]
        assert not decoder.between_frames

    def test_stdin_is_stdout(self) -> None:
        """What Docker echoes of the input counts as output."""
        assert list(FrameDecoder().feed(frame(0, b"x"))) == [(1, b"x")]

    @pytest.mark.parametrize(
        "data", [b"plain text", b"\x01\x00\x00\x01\x00\x00\x00\x01x", b"\x04" + bytes(7)]
    )
    def test_no_frames(self, data: bytes) -> None:
        """What is not framed is not taken for frames."""
        with pytest.raises(BadFrame):
            list(FrameDecoder().feed(data))


class TestJsonLines:
    @given(
        st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=10), max_size=3), max_size=6),
        st.lists(st.integers(0, 1000), max_size=20),
        st.booleans(),
    )
    def test_any_cuts(self, objects: list[dict[str, str]], places: list[int], last_newline: bool) -> None:
        """However the stream is cut up, every object comes once and in order."""
        data = b"\n".join(json.dumps(each).encode() for each in objects) + (b"\n" if last_newline else b"")
        assert list(json_lines(cut(data, places))) == objects

    def test_at_once(self) -> None:
        """An object comes as soon as its line is complete."""
        seen: list[Any] = []

        def chunks() -> Any:
            yield b'{"a": 1}\n{"b"'
            assert seen == [{"a": 1}]
            yield b": 2}\r\n"
            assert seen == [{"a": 1}, {"b": 2}]

        for each in json_lines(chunks()):
            seen.append(each)  # noqa: PERF402 - chunks() looks at it meanwhile

    def test_nonsense(self) -> None:
        """What is not JSON is an error."""
        with pytest.raises(ValueError, match="Expecting"):
            list(json_lines([b"{nonsense\n"]))


class TestProgress:
    def test_a_pull(self) -> None:
        """Layers are counted as they are known and done, bytes as they come."""
        progress = PullProgress("busybox:latest")
        texts = [str(progress)]
        for message in (
            {"status": "Pulling from library/busybox", "id": "latest"},
            {"status": "Already exists", "progressDetail": {}, "id": "a"},
            {"status": "Pulling fs layer", "progressDetail": {}, "id": "b"},
            {
                "status": "Downloading",
                "progressDetail": {"current": 1_000_000, "total": 4_000_000},
                "id": "b",
            },
            {"status": "Download complete", "progressDetail": {}, "id": "b"},
            {"status": "Extracting", "progressDetail": {"current": 1, "total": 4_000_000}, "id": "b"},
            {"status": "Pull complete", "progressDetail": {}, "id": "b"},
            {"status": "Digest: sha256:0123"},
            {"status": "Status: Downloaded newer image for busybox:latest"},
        ):
            progress.update(message)
            if str(progress) != texts[-1]:
                texts.append(str(progress))
        assert texts == [
            "pulling busybox:latest",
            "pulling busybox:latest: 1 of 1 layers",
            "pulling busybox:latest: 1 of 2 layers",
            "pulling busybox:latest: 1 of 2 layers, 1.0 of 4.0 MB",
            "pulling busybox:latest: 1 of 2 layers, 4.0 of 4.0 MB",
            "pulling busybox:latest: 2 of 2 layers, 4.0 of 4.0 MB",
        ]

    def test_unknown_size(self) -> None:
        """A registry that tells no sizes makes no nonsense."""
        progress = PullProgress("x")
        progress.update({"status": "Downloading", "progressDetail": {"current": 5}, "id": "a"})
        assert str(progress) == "pulling x: 0 of 1 layers"


class TestReferences:
    @pytest.mark.parametrize(
        ("text", "repository", "version"),
        [
            ("busybox", "busybox", "latest"),
            ("busybox:1.36", "busybox", "1.36"),
            ("library/busybox", "library/busybox", "latest"),
            ("localhost:5000/busybox", "localhost:5000/busybox", "latest"),
            ("localhost:5000/busybox:1", "localhost:5000/busybox", "1"),
            ("busybox@sha256:ab", "busybox", "sha256:ab"),
            ("registry:5000/busybox:1@sha256:ab", "registry:5000/busybox", "sha256:ab"),
        ],
    )
    def test_parse(self, text: str, repository: str, version: str) -> None:
        """A colon before a tag is not that of a port, and a digest outweighs a tag."""
        assert ImageReference.parse(text) == ImageReference(repository, version)

    @pytest.mark.parametrize(
        ("text", "whole"),
        [("busybox", "busybox:latest"), ("r:5/b:1", "r:5/b:1"), ("b:1@sha256:ab", "b@sha256:ab")],
    )
    def test_text(self, text: str, whole: str) -> None:
        """Written out nothing is left open."""
        assert str(ImageReference.parse(text)) == whole
