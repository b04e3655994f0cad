"""Threads for what blocks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")


class ThreadsReactor(IReactorTime, IReactorFromThreads):
    """What is needed of a reactor to hear of threads."""


def daemon_thread(*args: Any, **kwargs: Any) -> threading.Thread:
    """A thread that never holds up the end of the process."""
    return threading.Thread(*args, daemon=True, **kwargs)


class DaemonThreadPool(ThreadPool):
    """Threads that start when they are needed and never hold up the end of the process."""

    threadFactory = staticmethod(daemon_thread)  # type: ignore[assignment]

    def __init__(self, name: str, threads: int) -> None:
        super().__init__(minthreads=0, maxthreads=threads, name=name)


class IThreads(Protocol):
    """Runs what blocks while the reactor goes on."""

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Fires with what the function returns, or fails with what it raises."""

    def stop(self) -> None:
        """Run nothing more. What runs goes to its end, unheard."""


@define(eq=False)
class Threads:
    """An ``IThreads`` with a few threads of its own, which start when they are needed.

    :param name: what is done in them.
    :param count: how many functions run at the same time; others wait.
    """

    _reactor: ThreadsReactor
    _name: str
    _count: int
    _pool: DaemonThreadPool | None = field(init=False, default=None)

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """See ``IThreads``."""
        if self._pool is None:
            self._pool = DaemonThreadPool(self._name, self._count)
            self._pool.start()
        return deferToThreadPool(self._reactor, self._pool, function, *args)

    def stop(self) -> None:
        """See ``IThreads``."""
        pool, self._pool = self._pool, None
        if pool is not None:
            # In a thread: it waits for what runs, which on a disk that hangs may be long.
            daemon_thread(target=pool.stop, name=f"{self._name} stop").start()
