"""How a host that is no candidate becomes one."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from flynnhost.background import Background, Backoff
from flynnhost.cluster.candidacy import Candidacy, claim
from flynnhost.cluster.records import Keys
from flynnhost.cluster.terms import MAX_TERM, Terms
from flynnhost.errors import EtcdTrouble, LeaseLost
from flynnhost.etcd.lease import Lease
from flynnhost.interfaces import IEtcd

NOBODY_LEADS = 0.5
"""Seconds for which nobody leads before hosts come forward that are no candidates."""

SPREAD = 1.0
"""Seconds over which they do: the first is elected before most of the others begin."""

COME_FORWARD = 60.0
"""Seconds between two tries of such a host at the most, while nobody leads."""

REST = (2.0, 60.0)
"""Seconds for which a host that could not lead lets others try, the first time and at the most."""


@define(eq=False)
class Campaign:
    """Tries for a slot when it is told to, and when nobody leads for longer than an election takes.

    :param lease: the lease that the slot is to be on; None when none is wanted.
    :param claimed: called with the slot.
    :param heard: the highest term of which this host knows.
    :param chance: gives numbers from 0 to below 1.
    """

    log = Logger()

    _clock: IReactorTime
    _etcd: IEtcd
    _keys: Keys
    _host_id: str
    _slots: int
    _lease: Callable[[], Lease | None]
    _claimed: Callable[[Candidacy], None]
    _heard: Callable[[], int]
    _chance: Callable[[], float] = random.random
    _terms: Terms = field(init=False)
    _goes_on: bool = field(init=False, default=False)
    _resting: bool = field(init=False, default=False)
    _rests: Backoff = field(init=False)
    _someone_leads: bool = field(init=False, default=False)
    _patience: Backoff = field(init=False)
    _later: IDelayedCall | None = field(init=False, default=None)
    _background: Background = field(init=False, factory=lambda: Background("the campaign"))

    def __attrs_post_init__(self) -> None:
        self._terms = Terms(self._etcd, self._keys)
        self.led_well()
        self.leader_changed(False)

    def begin(self) -> None:
        """Try now, unless that goes on, no slot is wanted, or the host rests."""
        if not self._goes_on and not self._resting and self._lease() is not None:
            self._goes_on = True
            self._background.run(self._try(), "campaigning")

    def leader_changed(self, someone_leads: bool) -> None:
        """Another host leads, or nobody does: if nobody takes over soon, hosts must come forward."""
        self._someone_leads = someone_leads
        self._patience = Backoff(self._clock, 2 * (NOBODY_LEADS + SPREAD), COME_FORWARD, self._chance)
        self._try_later(NOBODY_LEADS + SPREAD * self._chance())

    async def rest(self, first: Coroutine[Deferred[Any], Any, None]) -> None:
        """Try for nothing until something is done, and a while has passed that grows each time, until
        ``led_well``.
        """
        self._resting = True
        try:
            await first
            await self._rests.wait()
        finally:
            self._resting = False

    def led_well(self) -> None:
        """The host was elected, and can lead."""
        self._rests = Backoff(self._clock, *REST, self._chance)

    def stop(self) -> Deferred[None]:
        """End what goes on. Fires when nothing does any more."""
        self._drop_timer()
        return self._background.cancel()

    def _try_later(self, seconds: float) -> None:
        """Try then, if nobody leads still."""
        self._drop_timer()
        if not self._someone_leads and self._lease() is not None:
            self._later = self._clock.callLater(seconds, self._waited)

    def _waited(self) -> None:
        self._later = None
        self.begin()

    def _drop_timer(self) -> None:
        later, self._later = self._later, None
        if later is not None:
            later.cancel()

    async def _try(self) -> None:
        backoff = Backoff(self._clock, 0.1, 2.0, self._chance)
        try:
            if self._heard() >= MAX_TERM:
                # A base above that would keep everybody from leading.
                self.log.error(
                    "This host can't be elected: it has heard the term {term}, above which there is none",
                    term=self._heard(),
                )
                return
            while (lease := self._lease()) is not None:
                try:
                    await self._terms.raise_above(self._heard())
                    claimed = await claim(self._etcd, self._keys, self._host_id, lease, self._slots)
                except LeaseLost:
                    return
                except EtcdTrouble:
                    await backoff.wait()
                    continue
                if claimed is None:
                    # Those who hold the slots may be gone before any of them leads.
                    self._try_later(self._patience.delay())
                elif lease is self._lease():
                    self._drop_timer()
                    self._claimed(claimed)
                return
        finally:
            self._goes_on = False
