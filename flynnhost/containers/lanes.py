"""Threads for calls that block, a few for each kind of call, so that no kind delays another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.python.failure import Failure

from flynnhost.errors import EngineUnavailable
from flynnhost.threads import DaemonThreadPool, daemon_thread

T = TypeVar("T")


class EngineReactor(IReactorTime, IReactorFromThreads):
    """What calls in threads need of a reactor."""


@define(eq=False)
class Lane:
    """Runs functions in its threads, in the order in which they came.

    :param name: what is done here, for people.
    :param threads: how many functions run at the same time.
    :param waiting: how many more may wait for a thread.
    :param deadline: how long anyone waits for a result, the time before the start included.
    """

    _reactor: EngineReactor
    name: str
    _threads: int
    _waiting: int
    _deadline: float
    _pool: DaemonThreadPool = field(init=False)
    _pending: set[Deferred[Any]] = field(init=False, factory=set)
    _in_threads: int = field(init=False, default=0)
    _closed: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._pool = DaemonThreadPool(f"docker-{self.name}", self._threads)
        self._pool.start()

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Fires with what the function returns or fails with what it raises.

        A function whose caller waits no more when its turn comes is not run.

        :raises EngineUnavailable: (as the Deferred's failure) when the deadline passed, too
            many are waiting already, or the lane is closed.
        """
        if self._closed:
            return fail(_closing())
        if self._in_threads >= self._threads + self._waiting:
            return fail(EngineUnavailable(f"{self._waiting} requests of this kind wait for it already"))
        result: Deferred[T] = Deferred(self._cancelled)
        result.addTimeout(self._deadline, self._reactor, self._timed_out)
        self._pending.add(result)
        self._in_threads += 1

        def thd_run() -> T | None:
            return None if result.called else function(*args)

        def thd_finished(ok: bool, value: Any) -> None:
            self._reactor.callFromThread(self._finished, result, ok, value)

        self._pool.callInThreadWithCallback(thd_finished, thd_run)
        return result

    def close(self) -> None:
        """Run nothing more and let everyone who waits go. Threads end when they can."""
        if self._closed:
            return
        self._closed = True
        for result in list(self._pending):
            result.cancel()

    def join(self, within: float) -> Deferred[None]:
        """Fires when the threads of a closed lane have ended, or the time is over."""
        if not self._pool.started:
            return succeed(None)
        ended: Deferred[None] = Deferred()

        def thd_stop() -> None:
            self._pool.stop()
            self._reactor.callFromThread(_fire, ended)

        daemon_thread(target=thd_stop, name=f"docker-{self.name}-stop").start()
        return ended.addTimeout(within, self._reactor, lambda _result, _timeout: None)

    def _finished(self, result: Deferred[Any], ok: bool, value: Any) -> None:
        self._in_threads -= 1
        self._pending.discard(result)
        if result.called:
            return
        if ok:
            result.callback(value)
        else:
            result.errback(cast(Failure, value))

    def _cancelled(self, result: Deferred[Any]) -> None:
        self._pending.discard(result)
        if self._closed:
            result.errback(_closing())

    def _timed_out(self, _result: object, timeout: float) -> None:
        raise EngineUnavailable(f"no answer in {timeout:g} s")


def _fire(ended: Deferred[None]) -> None:
    if not ended.called:
        ended.callback(None)


def _closing() -> EngineUnavailable:
    return EngineUnavailable("the connection is closed for good")
