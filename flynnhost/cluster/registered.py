"""Which hosts etcd knows, for the leader: those that are there, and those that were a short time ago."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost.background import Background, Backoff
from flynnhost.cluster.leader import Leader
from flynnhost.cluster.records import HostRecord, Keys
from flynnhost.errors import EtcdTrouble
from flynnhost.etcd.mirror import Mirror
from flynnhost.etcd.values import decode
from flynnhost.interfaces import IEtcd, ISubscription
from flynnhost.keyvalues import Compare, Delete, KeyValue
from flynnhost.model import HostEvent, HostEventKind


@define(eq=False)
class RegisteredHosts(Service):
    """Tells a leader which hosts there are, and again whenever that changes; and which ones an earlier
    leader had that are not there now, or go before they have reported. Of these the records are
    removed when the leader gives them up.

    :param condition: what must hold in etcd for whatever this leader writes; None when it does not
        lead any more.
    :param chance: gives numbers from 0 to below 1.
    """

    log = Logger()

    _clock: IReactorTime
    _etcd: IEtcd
    _keys: Keys
    _leader: Leader
    _condition: Callable[[], Compare | None]
    _chance: Callable[[], float] = random.random
    _members: dict[str, HostRecord] = field(init=False, factory=dict)
    # Those that are there, with the revision of their registration.
    _present: dict[str, int] = field(init=False, factory=dict)
    _instances: dict[str, str] = field(init=False, factory=dict)
    _mirror: Mirror = field(init=False)
    _subscription: ISubscription | None = field(init=False, default=None)
    _background: Background = field(init=False, factory=lambda: Background("the records of hosts"))

    def __attrs_post_init__(self) -> None:
        self._mirror = Mirror(self._clock, self._etcd, self._keys.hosts, self, self._chance)

    def since(self) -> Mapping[str, int]:
        """The hosts that are registered, each with the revision at which it was."""
        return self._present

    def startService(self) -> None:
        """Begin to look."""
        super().startService()
        self._subscription = self._leader.events.subscribe(self._happened)
        self._background.run(self._look(), "looking which hosts there were")

    def stopService(self) -> Deferred[None]:
        """Look no longer."""
        super().stopService()
        if self._subscription is not None:
            self._subscription.cancel()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._background.cancel()
        await self._mirror.stop()

    async def _look(self) -> None:
        backoff = self._backoff()
        while True:
            try:
                found = await self._etcd.get(self._keys.members)
                break
            except EtcdTrouble as e:
                self.log.warn("It is not known yet which hosts there were: {reason}", reason=str(e))
                await backoff.wait()
        self._members = {record.id: record for record in _records(found.values)}
        self._mirror.start()

    # --- IMirrorListener ------------------------------------------------------

    def key_changed(self, kv: KeyValue, previous: KeyValue | None) -> None:
        """See ``IMirrorListener``."""
        for record in _records([kv]):
            self._present[record.id] = kv.create_revision
            self._instances[record.id] = record.instance
        self._tell()

    def key_removed(self, previous: KeyValue) -> None:
        """See ``IMirrorListener``."""
        for record in _records([previous]):
            self._present.pop(record.id, None)
            self._instances.pop(record.id, None)
            if self._leader.waits_for(record.id):
                self._leader.miss_host(record.id, record.instance, record.addr)
        self._tell()

    def mirror_synced(self) -> None:
        """See ``IMirrorListener``."""
        self._tell()

    def mirror_stale(self, reason: str) -> None:
        """See ``IMirrorListener``. What was known is waited for."""

    def _tell(self) -> None:
        if not self._mirror.synced:
            return
        missed, self._members = self._members, {}
        for record in missed.values():
            if record.id not in self._present:
                self._leader.miss_host(record.id, record.instance, record.addr)
        self._leader.expect(self._instances)

    # --- hosts that are given up ----------------------------------------------

    def _happened(self, _: str, event: HostEvent) -> None:
        if event.kind is HostEventKind.REMOVE:
            self._background.run(self._forget(event.host_id), "forgetting a host")

    async def _forget(self, host_id: str) -> None:
        gone = Compare(self._keys.host(host_id), "create", "==", 0)
        backoff = self._backoff()
        while (leading := self._condition()) is not None:
            try:
                await self._etcd.txn([leading, gone], [Delete(self._keys.member(host_id))])
                return
            except EtcdTrouble:
                await backoff.wait()

    def _backoff(self) -> Backoff:
        return Backoff(self._clock, 0.1, 5.0, self._chance)


def _records(values: Iterable[KeyValue]) -> Iterator[HostRecord]:
    for kv in values:
        record = decode(kv.value, HostRecord)
        if record is not None:
            yield record
