"""Services that belong together in an order."""

from __future__ import annotations

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger


class OrderedServices(MultiService):
    """Children that are started in the order they were added, and stopped in the reverse order,
    each when the one before has stopped. What fails to stop is logged, and the rest is stopped.
    """

    log = Logger()

    def stopService(self) -> Deferred[None]:
        """Stop all children. Fires when the last has stopped."""
        self.running = 0
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for service in reversed(list(self)):
            try:
                await maybeDeferred(service.stopService)
            except Exception:
                self.log.failure("While stopping {service}", service=service)
