"""What a leader has in etcd."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from attrs import define, field
from twisted.internet.interfaces import IReactorTime

from flynnhost.cluster.candidacy import Candidacy
from flynnhost.cluster.records import Keys, LeaderRecord
from flynnhost.etcd.kept import KeptKeys
from flynnhost.etcd.values import encode
from flynnhost.interfaces import IEtcd
from flynnhost.keyvalues import Compare, Delete, Put

LOOK_EVERY = 5.0
"""Seconds after which the leader sees that what it wrote is there still."""


@define(eq=False)
class LeaderKeys:
    """The leader's record and what else a leader writes, all in one transaction, on its lease,
    and only if its slot is there.

    :param record: what the leader's record is to be, for a term.
    :param further: keys, with their values; the same keys for every host.
    :param chance: gives numbers from 0 to below 1.
    """

    _clock: IReactorTime
    _etcd: IEtcd
    _keys: Keys
    _record: Callable[[int], LeaderRecord]
    _further: Callable[[], Mapping[bytes, bytes]]
    _chance: Callable[[], float] = random.random
    _kept: KeptKeys | None = field(init=False, default=None)

    def hold(self, candidacy: Candidacy, term: int) -> None:
        """Write them, and again if they are lost, until ``let_go``."""
        self.let_go()
        keys = {self._keys.leader: encode(self._record(term)), **self._further()}
        right = [Compare(key, "value", "==", value) for key, value in keys.items()]
        puts = [Put(key, value, candidacy.lease.id) for key, value in keys.items()]
        self._kept = KeptKeys(
            self._clock,
            self._etcd,
            "the leader's record",
            right,
            # If the slot is not ours any more nothing is written, and who follows the slots is told.
            lambda: self._etcd.txn([candidacy.ours], puts),
            LOOK_EVERY,
            self._chance,
        )
        self._kept.start()

    def look(self) -> None:
        """They may have been touched."""
        if self._kept is not None:
            self._kept.look()

    def let_go(self) -> None:
        """Write them no longer. Those that are there are left alone."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.stop()

    def removal(self) -> Sequence[Delete]:
        """What removes them."""
        return [Delete(self._keys.leader), *(Delete(key) for key in self._further())]
