"""A clock that also takes calls from threads, to be run when a test says so."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from zope.interface import implementer

from flynnhost.containers.lanes import EngineReactor
from flynnhost.looks import LooksReactor


@implementer(EngineReactor, LooksReactor)
class ThreadsReactor(Clock):
    """What threads hand over waits here until the test looks."""

    def __init__(self) -> None:
        super().__init__()
        self._handed_over: queue.Queue[Callable[[], Any]] = queue.Queue()

    def callFromThread(self, callable: Callable[..., Any], *args: Any, **kwargs: Any) -> None:  # noqa: A002
        self._handed_over.put(lambda: callable(*args, **kwargs))

    def run_until(self, condition: Callable[[], object], within: float = 10.0) -> None:
        """Run what threads hand over until the condition holds."""
        deadline = time.monotonic() + within
        while not condition():
            try:
                self._handed_over.get(timeout=max(0.0, deadline - time.monotonic()))()
            except queue.Empty:
                raise AssertionError("waited in vain") from None
