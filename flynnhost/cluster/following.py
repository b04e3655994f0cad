"""Follows the leader's record, as every host does."""

from __future__ import annotations

import random
from collections.abc import Callable

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from flynnhost.cluster.records import Keys, LeaderRecord
from flynnhost.etcd.mirror import Mirror
from flynnhost.etcd.values import decode
from flynnhost.interfaces import IEtcd
from flynnhost.keyvalues import KeyRange, KeyValue

LeaderListener = Callable[[LeaderRecord | None], None]


@define(eq=False)
class LeaderFollower(Service):
    """Knows who leads, as far as etcd says.

    :ivar leader: the last record that was seen; None when there is none.
    """

    _clock: IReactorTime
    _etcd: IEtcd
    _keys: Keys
    _chance: Callable[[], float] = random.random
    leader: LeaderRecord | None = field(init=False, default=None)
    _listeners: list[LeaderListener] = field(init=False, factory=list)
    _mirror: Mirror = field(init=False)

    def __attrs_post_init__(self) -> None:
        only = KeyRange(self._keys.leader)
        self._mirror = Mirror(self._clock, self._etcd, only, self, self._chance)

    @property
    def current(self) -> bool:
        """Whether the record is followed, as far as is known; that etcd hangs is noticed late."""
        return self._mirror.synced

    def add(self, listener: LeaderListener) -> None:
        """Have somebody told of each change."""
        self._listeners.append(listener)

    def startService(self) -> None:
        """Begin to follow."""
        super().startService()
        self._mirror.start()

    def stopService(self) -> Deferred[None]:
        """Follow no longer."""
        super().stopService()
        return self._mirror.stop()

    # --- IMirrorListener ------------------------------------------------------

    def key_changed(self, kv: KeyValue, previous: KeyValue | None) -> None:
        """See ``IMirrorListener``."""
        self._changed(decode(kv.value, LeaderRecord))

    def key_removed(self, previous: KeyValue) -> None:
        """See ``IMirrorListener``."""
        self._changed(None)

    def mirror_synced(self) -> None:
        """See ``IMirrorListener``."""

    def mirror_stale(self, reason: str) -> None:
        """See ``IMirrorListener``. Whoever led may lead still."""

    def _changed(self, leader: LeaderRecord | None) -> None:
        if leader != self.leader:
            self.leader = leader
            for listener in self._listeners:
                listener(leader)
