"""Services that belong together in an order."""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost.background import Background

STOP_WITHIN = 20.0
"""Seconds that one service may take to stop before the next is stopped all the same."""


class OrderedServices(MultiService):
    """Children that are started in the order they were added, and stopped in the reverse order,
    each when the one before has stopped. What fails to stop, or does not come to an end, is
    logged, and the rest is stopped.

    :param within: seconds that one child may take to stop.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, within: float = STOP_WITHIN) -> None:
        super().__init__()
        self._clock = clock
        self._within = within
        self._stopping: list[Deferred[None]] | None = None

    def stopService(self) -> Deferred[None]:
        """Stop all children, once. Fires when the last has stopped."""
        self.running = 0
        stopped: Deferred[None] = Deferred()
        if self._stopping is None:
            self._stopping = [stopped]
            Deferred.fromCoroutine(self._stop()).addCallback(self._stopped)
        else:
            self._stopping.append(stopped)
        return stopped

    async def _stop(self) -> None:
        for service in reversed(list(self)):
            try:
                await maybeDeferred(service.stopService).addTimeout(self._within, self._clock)
            except Exception:  # a child that was cancelled or timed out is no reason to keep the others
                self.log.failure("While stopping {service}", service=service)

    def _stopped(self, _: None) -> None:
        waiters, self._stopping = self._stopping or [], None
        for waiter in waiters:
            if not waiter.called:
                waiter.callback(None)


class StartedAfter(Service):
    """Starts another service when something has happened, unless it is stopped before.

    :param ready: fires when the service can be started.
    """

    def __init__(self, ready: Callable[[], Deferred[None]], service: IService) -> None:
        super().__init__()
        self._ready = ready
        self.service = service
        self._background = Background(f"the start of {type(service).__name__}")

    def startService(self) -> None:
        """Begin to wait."""
        super().startService()
        self._background.run(self._start(), "starting it")

    async def _start(self) -> None:
        await self._ready()
        self.service.startService()

    def stopService(self) -> Deferred[None]:
        """Stop the service if it was started. Fires when it has stopped."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._background.cancel()
        if self.service.running:
            await maybeDeferred(self.service.stopService)
