"""What was found of one thing that was looked at."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator

from attrs import frozen


class State(enum.Enum):
    """How something is. Only what has failed keeps a host from its work."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@frozen
class Finding:
    """How one thing is.

    :param name: of the thing; there may be several findings of one.
    :param text: how it is, in words.
    :param advice: what to do about it; empty if there is nothing to do.
    """

    name: str
    state: State
    text: str
    advice: str = ""


def ok(name: str, text: str) -> Finding:
    """Something is as it should be."""
    return Finding(name, State.OK, text)


def warning(name: str, text: str, advice: str) -> Finding:
    """Something works, and could be better."""
    return Finding(name, State.WARNING, text, advice)


def failed(name: str, text: str, advice: str) -> Finding:
    """Something keeps the host from its work."""
    return Finding(name, State.FAILED, text, advice)


def found(name: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What a look finds. That it comes to grief is a finding too.

    :param name: of what is looked at.
    """
    try:
        yield from look()
    except Exception as e:
        text = f"can't be looked at: {type(e).__name__}: {' '.join(str(e).split())}"
        yield warning(name, text, "Look at it yourself; this is a fault of doctor.")
