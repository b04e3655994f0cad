"""What a process does about itself: how long its garbage is collected, and how many files it may open."""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

SLOW = 0.01
"""Seconds after which a collection was a slow one."""

LOOK_AGAIN = 3600.0
"""Seconds after which all objects are looked at again."""

_THRESHOLDS = (700, 10, 5)
"""Full collections come soon, so that there is little new for each."""


@define(eq=False)
class ShortCollections(Service):
    """Keeps Python's garbage collector from holding the process for long.

    A full collection looks at every object that may be a part of a circle. The sessions of
    thousands of hosts are so many that it takes tenths of seconds. So what a slow collection has
    found alive is left out of the following ones, for a time. Most of what ends is freed all the same, as
    it is in no circle.

    :param collector: the module ``gc``.
    :param timer: a clock that tells how long a collection takes.
    """

    _clock: IReactorTime
    _collector: Any = gc
    _timer: Callable[[], float] = time.perf_counter
    _began: float = field(init=False, default=0.0)
    _before: tuple[int, int, int] = field(init=False, default=(700, 10, 10))
    _next_look: IDelayedCall | None = field(init=False, default=None)

    def startService(self) -> None:
        """Begin, and leave out what is there already."""
        super().startService()
        self._before = self._collector.get_threshold()
        self._collector.set_threshold(*_THRESHOLDS)
        self._collector.callbacks.append(self._told)
        self._collector.freeze()
        self._next_look = self._clock.callLater(LOOK_AGAIN, self._look_again)

    def stopService(self) -> None:
        """Leave the collector as it was."""
        super().stopService()
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
            self._collector.callbacks.remove(self._told)
            self._collector.set_threshold(*self._before)
            self._collector.unfreeze()

    def _told(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = self._timer()
        elif info["generation"] == 2 and self._timer() - self._began > SLOW:
            self._collector.freeze()

    def _look_again(self) -> None:
        self._next_look = self._clock.callLater(LOOK_AGAIN, self._look_again)
        self._collector.unfreeze()


def allow_many_files() -> None:
    """Let this process open as many files as it may at most: a leader has a connection to each host."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
