"""A lease that is kept alive, and knows until when it can be counted upon."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from flynnhost.errors import EtcdTrouble, LeaseLost
from flynnhost.interfaces import IEtcd

_ANSWER_WITHIN = 0.25
"""This part of the TTL a keep-alive has to be answered."""

_TRY_AGAIN_AFTER = 0.05
"""This part of the TTL passes between a keep-alive that failed and the next one."""


class ILeaseHolder(Protocol):
    """Is told what becomes of a lease. Nothing is told any more after ``lease_lost``."""

    def lease_lapsed(self) -> None:
        """The lease was not confirmed in time: it may have ended, and its keys may be another's."""

    def lease_confirmed(self) -> None:
        """The lease is there still, after it had lapsed. Look at its keys before counting on them."""

    def lease_lost(self) -> None:
        """The lease has ended, and its keys are gone."""


def margin(ttl: float) -> float:
    """How many seconds before it can end at etcd a lease is given up here."""
    return min(1.0, 0.2 * ttl)


@define(eq=False)
class Lease:
    """A lease of etcd. It is kept alive three times in each TTL from ``begin`` until it is lost or ended.

    :param boottime: a clock that nobody can set and that goes on while the machine sleeps.
    :param ttl: seconds that it is to last; see ``ttl`` for what etcd made of it.
    :ivar id: 0 until it was granted.
    :ivar lost: whether it is known to have ended, or never began.
    """

    log = Logger()

    _clock: IReactorTime
    _boottime: Callable[[], float]
    _etcd: IEtcd
    _holder: ILeaseHolder
    ttl: int
    id: int = field(init=False, default=0)
    lost: bool = field(init=False, default=True)
    _deadline: float = field(init=False, default=float("-inf"))
    _lapsed: bool = field(init=False, default=False)
    _timer: IDelayedCall | None = field(init=False, default=None)
    _next: IDelayedCall | None = field(init=False, default=None)
    _asking: Deferred[int] | None = field(init=False, default=None)

    def begin(self) -> Deferred[None]:
        """Have it granted. Fires when it was, and fails as ``IEtcd.grant`` does. Call once."""
        return Deferred.fromCoroutine(self._begin())

    def valid(self) -> bool:
        """Whether it is certain that it has not ended. Ask before every act that depends on it."""
        return self.remaining() > 0

    def remaining(self) -> float:
        """For how many seconds it is certain that it does not end by itself; not above 0 if it is not."""
        return 0.0 if self.lost else self._deadline - self._boottime()

    def abandon(self) -> Deferred[None]:
        """Keep it alive no longer: it ends by itself within its TTL. Fires when nothing runs any more."""
        self._gone()
        if self._asking is not None:
            self._asking.cancel()
        return succeed(None)

    def revoke(self) -> Deferred[None]:
        """End it, at once if etcd answers and by itself within its TTL if not. Fires when that is
        known; never fails, and tells the holder nothing.
        """
        return Deferred.fromCoroutine(self._revoke())

    async def _begin(self) -> None:
        sent = self._boottime()
        granted = await self._etcd.grant(self.ttl)
        self.id, self.ttl, self.lost = granted.lease, granted.ttl, False
        self._confirmed(sent, granted.ttl)
        self._check()  # the grant may have taken longer than it lasts
        if not self.lost:
            self._keep_alive_later(sent + self.ttl / 3 - self._boottime())

    async def _revoke(self) -> None:
        granted, self.lost = not self.lost, True
        await self.abandon()
        if granted:
            try:
                await self._etcd.revoke(self.id)
            except EtcdTrouble as e:
                self.log.info(
                    "Lease {lease_id} is left to end by itself: {reason}", lease_id=self.id, reason=e
                )

    def _keep_alive(self) -> None:
        self._next = None
        sent = self._boottime()
        self._asking = self._etcd.keep_alive_once(self.id, self.ttl * _ANSWER_WITHIN)
        # No coroutine: the holder may give the lease up from within what it is told.
        self._asking.addCallbacks(self._kept, self._not_kept, callbackArgs=(sent,))
        self._asking.addErrback(lambda failure: self.log.failure("A lease's holder failed", failure))

    def _kept(self, ttl: int, sent: float) -> None:
        self._asking = None
        if not self.lost:
            self._keep_alive_later(sent + ttl / 3 - self._boottime())
            self._confirmed(sent, ttl)

    def _not_kept(self, failure: Failure) -> None:
        self._asking = None
        if self.lost:
            return  # it was given up
        if failure.check(LeaseLost):
            self.log.warn("Lease {lease_id} has ended", lease_id=self.id)
            self._gone()
            self._holder.lease_lost()
            return
        self.log.debug(
            "Lease {lease_id} was not kept alive: {reason}", lease_id=self.id, reason=failure.value
        )
        self._keep_alive_later(self.ttl * _TRY_AGAIN_AFTER)
        failure.trap(EtcdTrouble)

    def _keep_alive_later(self, seconds: float) -> None:
        self._next = self._clock.callLater(max(0.0, seconds), self._keep_alive)

    def _confirmed(self, sent: float, ttl: int) -> None:
        """The lease lasts so long from some time after ``sent``."""
        self._check()  # what slept too long to notice the lapse must not miss it
        self._deadline = max(self._deadline, sent + ttl - margin(ttl))
        self._set_timer()
        if self._lapsed and self.valid():
            self._lapsed = False
            self.log.info("Lease {lease_id} is there still", lease_id=self.id)
            self._holder.lease_confirmed()

    def _check(self) -> None:
        if self._deadline > float("-inf") and not (self.lost or self._lapsed or self.valid()):
            self._lapsed = True
            self.log.warn("Lease {lease_id} was not confirmed in time", lease_id=self.id)
            self._holder.lease_lapsed()

    def _set_timer(self) -> None:
        self._drop_timer()
        if self.valid():
            self._timer = self._clock.callLater(self.remaining(), self._time_over)

    def _time_over(self) -> None:
        self._timer = None
        self._check()
        self._set_timer()  # the two clocks need not agree

    def _gone(self) -> None:
        self.lost = True
        self._drop_timer()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
