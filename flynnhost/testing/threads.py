"""Threads that are none: for tests on a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


@define(eq=False)
class NoThreads:
    """An ``IThreads`` that does everything at once, or when the test says so.

    :ivar held: what waits to be done; None to do everything at once.
    :ivar error: with which everything fails.
    """

    held: list[Callable[[], None]] | None = None
    error: Exception | None = None
    done: int = field(init=False, default=0)

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """See ``IThreads``."""
        result: Deferred[T] = Deferred()

        def do() -> None:
            self.done += 1
            try:
                if self.error is not None:
                    raise self.error
                value = function(*args)
            except Exception:
                result.errback(Failure())
            else:
                result.callback(value)

        if self.held is None:
            do()
        else:
            self.held.append(do)
        return result

    def release(self, count: int | None = None) -> None:
        """Do what waits, or so much of it."""
        waiting = self.held or []
        now, self.held = waiting[:count], waiting[len(waiting[:count]) :]
        for each in now:
            each()

    def stop(self) -> None:
        """See ``IThreads``."""
        self.held = []
