"""Time that nobody can set.

Twisted's timers go by the wall clock: where that is set back by an hour, what was to happen in a
second happens in an hour and a second. Leases can't be kept by such a clock.
"""

from __future__ import annotations

import time
from typing import Any


def boottime() -> float:
    """Seconds since the machine was started, those in which it was asleep too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def make_steady(reactor: Any) -> None:
    """Let a reactor's timers go by a clock that nobody can set. Call it before there are timers.

    It does not count the time in which the machine is asleep, as nothing runs then.
    """
    reactor.seconds = time.monotonic
