"""Fills the slots of candidates that are gone."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost.background import Background, Periodic

LOOK_EVERY = 5.0
"""Seconds between two looks at the slots."""

ASK_AGAIN_AFTER = 60.0
"""Seconds after which a host is asked again that was asked and is no candidate."""


@define(eq=False)
class Vacancies(Service):
    """Asks hosts to become candidates while there are free slots: those first that are there for longest.

    It runs where the leader does, which knows the slots and the hosts anyway, and asks as many hosts
    as there are free slots, each by its own session: no other host is woken.

    :param slots: how many there are.
    :param candidates: gives the IDs of the hosts that hold them; None while that is not known.
    :param registered: gives the hosts that there are by ID, each with a number that grows with the
        time of its registration.
    :param invite: asks a host; says whether there was a way to ask it.
    """

    log = Logger()

    _clock: IReactorTime
    _slots: int
    _candidates: Callable[[], Collection[str] | None]
    _registered: Callable[[], Mapping[str, int]]
    _invite: Callable[[str], bool]
    _asked: dict[str, float] = field(init=False, factory=dict)
    _background: Background = field(init=False, factory=lambda: Background("the slots of candidates"))
    _looking: Periodic = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._looking = Periodic(
            self._clock, LOOK_EVERY, self._look, "looking for free slots", self._background
        )

    def startService(self) -> None:
        """Begin to look."""
        super().startService()
        self._looking.start(now=False)

    def stopService(self) -> Deferred[None]:
        """Look no longer."""
        super().stopService()
        self._looking.stop()
        return self._background.cancel()

    async def _look(self) -> None:
        candidates = self._candidates()
        if candidates is None:
            return
        long_ago = self._clock.seconds() - ASK_AGAIN_AFTER
        self._asked = {host_id: at for host_id, at in self._asked.items() if at > long_ago}
        vacant = self._slots - len(candidates)
        if vacant <= 0:
            return
        waiting = [
            (since, host_id)
            for host_id, since in self._registered().items()
            if host_id not in candidates and host_id not in self._asked
        ]
        heapq.heapify(waiting)
        while vacant and waiting:
            _, host_id = heapq.heappop(waiting)
            if self._invite(host_id):
                self.log.info("Host {host_id} is to be a candidate", host_id=host_id)
                self._asked[host_id] = self._clock.seconds()
                vacant -= 1
