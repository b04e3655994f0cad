"""Who leads. The first way to decide it: a cluster of one host, which leads itself."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost.background import Background, Backoff
from flynnhost.errors import CannotLead, FlynnHostError
from flynnhost.interfaces import ILeadership


@define(eq=False)
class SoloElection(Service):
    """Elects this host as soon as there is a term for it, and deposes it at the end.

    As long as no term can be written, or this host can't lead, it goes on trying.

    :param begin_term: fires with a term that no leader of this host has had, when that is on disk.
    """

    log = Logger()

    _clock: IReactorTime
    _begin_term: Callable[[], Deferred[int]]
    _leadership: ILeadership
    _background: Background = field(init=False, factory=lambda: Background("the election"))

    def startService(self) -> None:
        """Begin to wait for a term."""
        super().startService()
        self._background.run(self._elect(), "electing this host")

    def stopService(self) -> Deferred[None]:
        """Resign. Fires when this host leads no longer."""
        super().stopService()
        return Deferred.fromCoroutine(self._resign())

    async def _elect(self) -> None:
        backoff = Backoff(self._clock)
        while True:
            try:
                await self._leadership.elected(await self._term())
                return
            except CannotLead as e:
                self.log.error("Nobody leads yet: {reason}", reason=str(e))
                await self._leadership.deposed()
                await backoff.wait()

    async def _term(self) -> int:
        backoff = Backoff(self._clock)
        while True:
            try:
                return await self._begin_term()
            except CancelledError:
                raise
            except FlynnHostError as e:
                self.log.error("This host can't lead yet: {reason}", reason=str(e))
            except Exception:
                self.log.failure("While beginning a term")
            await backoff.wait()

    async def _resign(self) -> None:
        await self._background.cancel()
        await self._leadership.deposed()
