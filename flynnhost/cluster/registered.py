"""Which hosts etcd knows to be there, for a leader that waits for their reports."""

from __future__ import annotations

import random
from collections.abc import Callable

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from flynnhost.cluster.leader import Leader
from flynnhost.cluster.records import HostRecord, Keys, decode
from flynnhost.etcd.mirror import Mirror
from flynnhost.interfaces import IEtcd
from flynnhost.keyvalues import KeyValue


@define(eq=False)
class RegisteredHosts(Service):
    """Tells a leader which hosts are registered, and again whenever that changes."""

    _clock: IReactorTime
    _etcd: IEtcd
    _keys: Keys
    _leader: Leader
    _chance: Callable[[], float] = random.random
    _mirror: Mirror = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._mirror = Mirror(self._clock, self._etcd, self._keys.hosts, self, self._chance)

    def startService(self) -> None:
        """Begin to look."""
        super().startService()
        self._mirror.start()

    def stopService(self) -> Deferred[None]:
        """Look no longer."""
        super().stopService()
        return self._mirror.stop()

    # --- IMirrorListener ------------------------------------------------------

    def key_changed(self, kv: KeyValue, previous: KeyValue | None) -> None:
        """See ``IMirrorListener``."""
        self._tell()

    def key_removed(self, previous: KeyValue) -> None:
        """See ``IMirrorListener``."""
        self._tell()

    def mirror_synced(self) -> None:
        """See ``IMirrorListener``."""
        self._tell()

    def mirror_stale(self, reason: str) -> None:
        """See ``IMirrorListener``. What was known is waited for."""

    def _tell(self) -> None:
        if self._mirror.synced:
            self._leader.expect(
                record.id
                for kv in self._mirror.values.values()
                if (record := decode(kv.value, HostRecord)) is not None
            )
