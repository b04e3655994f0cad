"""Streams of JSON objects, one on each line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def json_lines(chunks: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    """The objects in a stream, as soon as their lines are complete, however it is cut up.

    :raises ValueError: if a line is not JSON.
    """
    parts: list[bytes] = []
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        parts.append(first)
        for other in others:
            yield from _decoded(parts)
            parts = [other]
    yield from _decoded(parts)


def _decoded(parts: list[bytes]) -> Iterator[Mapping[str, Any]]:
    line = b"".join(parts)
    if line.strip():
        yield json.loads(line)
