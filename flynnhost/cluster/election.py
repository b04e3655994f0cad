"""Who leads. The first way to decide it: a cluster of one host, which leads itself."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred

from flynnhost.background import Background
from flynnhost.interfaces import ILeadership


@define(eq=False)
class SoloElection(Service):
    """Elects this host as soon as there is a term for it, and deposes it at the end.

    :param begin_term: fires with a term that no leader of this host has had, when that is on disk.
    """

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
        term = await self._begin_term()
        self._leadership.elected(term)

    async def _resign(self) -> None:
        await self._background.cancel()
        await self._leadership.deposed()
