"""Waiting for conditions, with a deadline, never for a length of time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

T = TypeVar("T")

_BETWEEN_LOOKS = 0.02


def wait_until(condition: Callable[[], T | None], what: str, within: float = 20.0) -> T:
    """Block until the condition gives something true, which is returned."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within:g} s in vain for {what}")
        time.sleep(_BETWEEN_LOOKS)
    return value


async def until(clock: IReactorTime, condition: Callable[[], T | None], what: str, within: float = 20.0) -> T:
    """Let the reactor run until the condition gives something true, which is returned."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within:g} s in vain for {what}")
        await deferLater(clock, _BETWEEN_LOOKS)
    return value


async def until_it(
    clock: IReactorTime, condition: Callable[[], Awaitable[T | None]], what: str, within: float = 20.0
) -> T:
    """Like ``until``, for a condition that has to be asked for."""
    deadline = time.monotonic() + within
    while not (value := await condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within:g} s in vain for {what}")
        await deferLater(clock, _BETWEEN_LOOKS)
    return value
