"""A host's presence in etcd: one lease, and the keys that are there with it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost.background import Background, Backoff
from flynnhost.cluster.records import HostRecord, Keys
from flynnhost.errors import EtcdTrouble, LeaseLost
from flynnhost.etcd.lease import Lease
from flynnhost.etcd.values import decode, encode
from flynnhost.interfaces import IEtcd
from flynnhost.keyvalues import Compare, KeyValue, Put


class IPresenceUser(Protocol):
    """Has keys that are there while the host is."""

    def present(self, lease: Lease) -> None:
        """The host is registered, with this new lease."""

    def lapsed(self) -> None:
        """The lease may have ended: count on none of its keys."""

    def confirmed(self) -> None:
        """The lease is there after all. Look at its keys before counting on them."""

    def absent(self) -> None:
        """The lease has ended, and all its keys are gone."""


@define(eq=False)
class Presence(Service):
    """Keeps a host registered, with a new lease whenever the last one was lost.

    A second live host of the same ID is not registered: it waits until the first is gone.

    :param boottime: a clock that nobody can set and that goes on while the machine sleeps.
    :param ttl: of the lease, in seconds.
    :param chance: gives numbers from 0 to below 1.
    """

    log = Logger()

    _clock: IReactorTime
    _boottime: Callable[[], float]
    _etcd: IEtcd
    _keys: Keys
    _record: Callable[[], HostRecord]
    _ttl: int = 5
    _chance: Callable[[], float] = random.random
    _lease: Lease | None = field(init=False, default=None)
    _users: list[IPresenceUser] = field(init=False, factory=list)
    _registered: bool = field(init=False, default=False)
    _background: Background = field(init=False, factory=lambda: Background("the host's presence in etcd"))

    @property
    def certain(self) -> bool:
        """Whether etcd has confirmed lately that this host is there, and so is heard of."""
        return self._registered and self._lease is not None and self._lease.valid()

    @property
    def remaining(self) -> float:
        """For how many seconds at least etcd keeps this host's lease; 0 if that is not known."""
        return max(0.0, self._lease.remaining()) if self._lease is not None else 0.0

    def add(self, user: IPresenceUser) -> None:
        """Have somebody told. Before the start."""
        self._users.append(user)

    def startService(self) -> None:
        """Begin to be present."""
        super().startService()
        self._background.run(self._appear(), "registering this host")

    def stopService(self) -> Deferred[None]:
        """Be gone: all the lease's keys are removed. Fires when that is done or can't be."""
        super().stopService()
        return Deferred.fromCoroutine(self._leave())

    async def _leave(self) -> None:
        await self._background.cancel()
        lease, self._lease = self._lease, None
        if lease is not None:
            await lease.revoke()

    async def _appear(self) -> None:
        backoff = Backoff(self._clock, 0.2, 5.0, self._chance)
        while True:
            lease = Lease(self._clock, self._boottime, self._etcd, self, self._ttl)
            self._registered = False
            try:
                self._lease = lease
                await lease.begin()
                await self._register(lease, backoff)
                if lease.lost:
                    continue  # of which nobody was told, as there was no registration yet
                self._registered = True
            except LeaseLost:
                continue
            except EtcdTrouble as e:
                self.log.warn("This host can't be registered yet: {reason}", reason=str(e))
                await lease.abandon()
                await backoff.wait()
                continue
            for user in self._users:
                user.present(lease)
            return

    async def _register(self, lease: Lease, backoff: Backoff) -> None:
        record = self._record()
        key = self._keys.host(record.id)
        while True:
            found = await self._etcd.get(key)
            known = found.values[0] if found.values else None
            if known is not None and known.lease == lease.id:
                return  # an earlier try, of which no answer came
            if known is not None and not _same_host(known, record):
                self.log.error(
                    "Another host is registered as {host_id}, {other}. Give this one an --id of its own",
                    host_id=record.id,
                    other=known.value.decode(errors="replace"),
                )
                await backoff.wait()
                continue
            as_found = Compare(key, "mod", "==", known.mod_revision if known else 0)
            value = encode(record)
            puts = [Put(key, value, lease.id), Put(self._keys.member(record.id), value)]
            if (await self._etcd.txn([as_found], puts)).succeeded:
                return

    # --- ILeaseHolder ---------------------------------------------------------

    def lease_lapsed(self) -> None:
        """See ``ILeaseHolder``."""
        for user in self._told():
            user.lapsed()

    def lease_confirmed(self) -> None:
        """See ``ILeaseHolder``."""
        for user in self._told():
            user.confirmed()

    def lease_lost(self) -> None:
        """See ``ILeaseHolder``."""
        told, self._registered = self._told(), False
        for user in told:
            user.absent()
        if told:
            self._background.run(self._appear(), "registering this host again")

    def _told(self) -> list[IPresenceUser]:
        return self._users if self._registered and self.running else []


def _same_host(known: KeyValue, record: HostRecord) -> bool:
    """Whether a record is of this host, written by a process that is gone: its lock was free."""
    other = decode(known.value, HostRecord)
    return other is not None and other.instance == record.instance
