"""Records as values of keys."""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


def encode(record: object) -> bytes:
    """A record, an attrs value, as a value."""
    return msgspec.json.encode(record)


def decode(value: bytes, kind: type[T]) -> T | None:
    """A record from a value; None if it is none, as when it was written by somebody else."""
    try:
        return msgspec.json.decode(value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
