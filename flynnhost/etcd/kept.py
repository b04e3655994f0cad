"""Keys that are seen to be there, as long as a lease lasts."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost.background import Background, Backoff, Periodic
from flynnhost.errors import EtcdTrouble, LeaseLost
from flynnhost.interfaces import IEtcd
from flynnhost.keyvalues import Compare, TxnResult


@define(eq=False)
class KeptKeys:
    """Some keys that are written at once, and again whenever they are found not to be as they were.

    They are looked at from time to time rather than watched: all hosts keep some, and hardly ever
    does somebody else touch them.

    :param what: the keys in words, for the log.
    :param right: the conditions that all hold if nothing needs to be written.
    :param write: begins the transaction that writes the keys.
    :param interval: how many seconds pass between two looks.
    :param chance: gives numbers from 0 to below 1.
    """

    log = Logger()

    _clock: IReactorTime
    _etcd: IEtcd
    _what: str
    _right: Sequence[Compare]
    _write: Callable[[], Deferred[TxnResult]]
    _interval: float
    _chance: Callable[[], float] = random.random
    _written: bool = field(init=False, default=False)
    _background: Background = field(init=False)
    _looks: Periodic = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._background = Background(self._what)
        self._looks = Periodic(self._clock, self._interval, self._look, "writing to etcd", self._background)

    def start(self) -> None:
        """Begin."""
        self._looks.start()

    def look(self) -> None:
        """Look now, or right after the look that goes on. Does nothing before the start or after the end."""
        self._looks.soon()

    def stop(self) -> Deferred[None]:
        """End. Fires when nothing runs any more; what was sent may be done yet. The keys are left alone."""
        self._looks.stop()
        return self._background.cancel()

    async def _look(self) -> None:
        backoff = Backoff(self._clock, 0.1, 5.0, self._chance)
        while True:
            try:
                if self._written and (await self._etcd.txn(self._right)).succeeded:
                    return
                if self._written:
                    self.log.warn("Somebody has touched {what}: writing it again", what=self._what)
                await self._write()
                self._written = True
                return
            except LeaseLost:
                return  # the lease tells its holder
            except EtcdTrouble as e:
                self.log.info("Can't write {what} yet: {reason}", what=self._what, reason=str(e))
            await backoff.wait()
