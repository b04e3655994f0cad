"""The stream in which etcd tells changes: JSON objects, one on each line, the last perhaps without end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from attrs import define, field


class FrameTooLong(ValueError):
    """More came without an end than is taken."""


@define(eq=False)
class FrameSplitter:
    """Takes the stream apart, however the network has cut it up.

    :param limit: how many bytes one frame may have.
    """

    _limit: int
    _parts: list[bytes] = field(init=False, factory=list)
    _size: int = field(init=False, default=0)

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The frames that are complete with these bytes.

        :raises ValueError: if one is not JSON, or too long.
        """
        *ends, rest = data.split(b"\n")
        for end in ends:
            yield from self._complete(end)
        self._keep(rest)

    def finish(self) -> Iterator[dict[str, Any]]:
        """The frame that the end of the stream completes, if there is one.

        :raises ValueError: if it is not JSON.
        """
        yield from self._complete(b"")

    def _complete(self, end: bytes) -> Iterator[dict[str, Any]]:
        self._keep(end)
        frame = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if frame.strip():
            decoded = json.loads(frame)
            if not isinstance(decoded, dict):
                raise ValueError("a frame that is no object")
            yield decoded

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._limit:
            raise FrameTooLong(f"a frame of more than {self._limit} bytes")
        if part:
            self._parts.append(part)
