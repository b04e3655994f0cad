"""This host among the services."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from flynnhost.discovery.records import Instance, ServiceKeys, ServiceRecord
from flynnhost.etcd.kept import KeptKeys
from flynnhost.etcd.lease import Lease
from flynnhost.etcd.values import encode
from flynnhost.interfaces import IEtcd
from flynnhost.keyvalues import Compare, Put, TxnResult

HOSTS = "flynn-host"
"""The service whose instances are the hosts, and whose leader is the cluster's."""

LOOK_EVERY = 30.0
"""Seconds after which a host sees that it is registered still: a small part of what its lease costs."""

_BY_HAND = encode(ServiceRecord("manual"))


@define(eq=False)
class Registration(Service):
    """Registers this host as an instance of the service ``flynn-host``, as an ``IPresenceUser``.

    The instance is on the host's lease, and goes with it. The service is made if there is none,
    and its leader is always chosen by hand: by ``leader_keys``, which whoever leads has to write.

    :param instance: what is to be registered; asked each time that the host gets a lease.
    :param chance: gives numbers from 0 to below 1.
    """

    _clock: IReactorTime
    _etcd: IEtcd
    _keys: ServiceKeys
    _instance: Callable[[], Instance]
    _chance: Callable[[], float] = random.random
    _kept: KeptKeys | None = field(init=False, default=None)

    def leader_keys(self) -> Mapping[bytes, bytes]:
        """What says that this host is the service's leader: keys, with their values."""
        return {self._keys.leader(HOSTS): self._instance().id.encode()}

    def stopService(self) -> Deferred[None]:
        """Look after it no longer. What is registered goes with the lease. Fires when nothing runs."""
        super().stopService()
        return self._drop()

    # --- IPresenceUser --------------------------------------------------------

    def present(self, lease: Lease) -> None:
        """See ``IPresenceUser``."""
        if not self.running:
            return
        instance = self._instance()
        service, key = self._keys.record(HOSTS), self._keys.instance(HOSTS, instance.id)
        by_hand = Compare(service, "value", "==", _BY_HAND)
        put = Put(key, encode(instance), lease.id)

        def write() -> Deferred[TxnResult]:
            return self._etcd.txn([by_hand], [put], [Put(service, _BY_HAND), put])

        # That another host with this address has written to the key is not corrected: the two
        # would do so for ever.
        there = [by_hand, Compare(key, "create", ">", 0)]
        self._kept = KeptKeys(
            self._clock, self._etcd, "this host's entry in discovery", there, write, LOOK_EVERY, self._chance
        )
        self._kept.start()

    def lapsed(self) -> None:
        """See ``IPresenceUser``. Nothing depends on the entry here."""

    def confirmed(self) -> None:
        """See ``IPresenceUser``."""
        if self._kept is not None:
            self._kept.look()

    def absent(self) -> None:
        """See ``IPresenceUser``."""
        self._drop()

    def _drop(self) -> Deferred[None]:
        kept, self._kept = self._kept, None
        return succeed(None) if kept is None else kept.stop()
