"""Hosts register and elect their leader in a real etcd, as discoverd and its clients are to find it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred, gatherResults, succeed

from flynnhost.cluster.etcd_election import EtcdElection
from flynnhost.cluster.presence import Presence
from flynnhost.cluster.records import HostRecord, Keys, LeaderRecord
from flynnhost.discovery.records import Instance, ServiceKeys, ServiceRecord
from flynnhost.discovery.registration import HOSTS, Registration
from flynnhost.etcd.clocks import boottime
from flynnhost.etcd.values import decode, encode
from flynnhost.keyvalues import Delete, KeyRange, KeyValue
from tests.support.etcd import EtcdCluster
from tests.support.etcd_rig import RealRig
from tests.support.reactor import on_reactor

pytestmark = pytest.mark.etcd

TTL = 5


@define(eq=False)
class Host:
    """What of a host speaks to etcd."""

    rig: Rig
    name: str
    etcd: Any
    leads: bool = False
    presence: Presence = field(init=False)
    election: EtcdElection = field(init=False)
    registration: Registration = field(init=False)

    def __attrs_post_init__(self) -> None:
        reactor, keys = self.rig.reactor, self.rig.cluster_keys
        self.presence = Presence(
            reactor, boottime, self.etcd, keys, lambda: HostRecord(self.name, self.addr, self.name), TTL
        )
        self.registration = Registration(
            reactor, self.etcd, self.rig.services, lambda: Instance(self.addr, meta={"id": self.name})
        )
        self.election = EtcdElection(
            reactor,
            self.etcd,
            keys,
            self.name,
            self,
            lambda term: LeaderRecord(self.name, self.addr, term),
            self.registration.leader_keys,
        )
        self.presence.add(self.registration)
        self.presence.add(self.election)

    @property
    def addr(self) -> str:
        return f"{self.name}.example:1113"

    @property
    def key(self) -> bytes:
        return self.rig.services.instance(HOSTS, Instance(self.addr).id)

    def elected(self, term: int) -> Deferred[None]:
        self.leads = True
        return succeed(None)

    def deposed(self) -> Deferred[None]:
        self.leads = False
        return succeed(None)

    def start(self) -> None:
        for service in (self.election, self.registration, self.presence):
            service.startService()

    async def stop(self) -> None:
        for service in (self.election, self.registration, self.presence):
            await service.stopService()


class Rig(RealRig):
    """Hosts of a cluster that has its keys to itself."""

    def __init__(self, reactor: Any, cluster: EtcdCluster) -> None:
        super().__init__(reactor, cluster)
        self.cluster_keys, self.services = Keys(self.prefix), ServiceKeys(self.prefix)
        self.hosts: list[Host] = []
        self.reader = self.client()

    def host(self, name: str, urls: tuple[str, ...] = ()) -> Host:
        host = Host(self, name, self.client(urls))
        self.hosts.append(host)
        host.start()
        return host

    async def found(self, keys: KeyRange) -> Mapping[bytes, KeyValue]:
        return {kv.key: kv for kv in (await self.reader.get(keys)).values}

    async def registered(self) -> dict[str, int]:
        """The hosts of the service, with their indexes."""
        found = (await self.found(self.services.instances(HOSTS))).values()
        read = [(decode(kv.value, Instance), kv.create_revision) for kv in found]
        return {instance.meta["id"]: index for instance, index in read if instance is not None}

    async def until_registered(self, *names: str) -> None:
        """Wait until these hosts are those of the service."""

        async def are() -> bool:
            return sorted(await self.registered()) == sorted(names)

        await self.until_it(are, f"the hosts to be {names}")

    async def leader(self) -> str:
        """Who is the service's leader; fails unless the leader's record says the same."""
        found = await self.found(self.keys)
        named = found.get(self.services.leader(HOSTS))
        kept = found.get(self.cluster_keys.leader)
        assert (named is None) == (kept is None)
        if named is None or kept is None:
            return ""
        assert named.mod_revision == kept.mod_revision
        assert named.lease == kept.lease
        record = decode(kept.value, LeaderRecord)
        assert record is not None
        assert named.value.decode() == Instance(record.addr).id
        return record.id

    async def led_by(self, *names: str) -> str:
        async def leads() -> bool:
            return await self.leader() in names

        await self.until_it(leads, f"{names} to lead")
        return await self.leader()

    async def stop_all(self) -> None:
        await gatherResults([Deferred.fromCoroutine(host.stop()) for host in self.hosts])


@pytest.fixture
def rig(etcd: EtcdCluster, clean_reactor: Any) -> Iterator[Rig]:
    rig = Rig(clean_reactor, etcd)
    yield rig
    rig.close()


@on_reactor
async def test_hosts_come_and_go(rig: Rig) -> None:
    """Hosts are instances of a service whose leader is theirs, in every state that etcd ever has."""
    hosts = {name: rig.host(name) for name in ("h1", "h2", "h3")}

    await rig.until_registered(*hosts)
    first = await rig.led_by(*hosts)
    found, indexes = await rig.found(rig.services.everything(HOSTS)), await rig.registered()
    record = found[rig.services.record(HOSTS)]
    assert (record.value, record.lease) == (encode(ServiceRecord("manual")), 0)
    assert len({kv.lease for kv in found.values()}) == 4
    assert set(found) == {
        record.key,
        rig.services.leader(HOSTS),
        *(host.key for host in hosts.values()),
    }

    await rig.pause(TTL + 1)
    assert await rig.registered() == indexes
    assert await rig.found(rig.services.everything(HOSTS)) == found

    await hosts.pop(first).stop()
    assert await rig.leader() != first  # no later than it is gone
    assert first not in await rig.registered()
    await rig.led_by(*hosts)
    await rig.stop_all()
    assert list(await rig.found(rig.services.all)) == [record.key]
    assert await rig.leader() == ""


@on_reactor
async def test_a_host_is_cut_off(rig: Rig) -> None:
    """A leader that is cut off is no instance any more after its TTL, and is one again when it is back."""
    through = await rig.proxy(rig.cluster.members[0])
    cut_off = rig.host("h1", (through.url,))
    await rig.led_by("h1")
    rig.host("h2")
    await rig.until_registered("h1", "h2")
    index = (await rig.registered())["h1"]
    through.silent = True
    await rig.led_by("h2")
    assert list(await rig.registered()) == ["h2"]
    assert not cut_off.leads
    through.cut()
    through.silent = False

    await rig.until_registered("h1", "h2")
    assert (await rig.registered())["h1"] > index
    assert await rig.leader() == "h2"
    await rig.stop_all()


@on_reactor
async def test_a_host_is_taken_out(rig: Rig) -> None:
    """A host that somebody has taken out, with all of the service, comes back when it looks."""
    host = rig.host("h1")
    await rig.led_by("h1")
    before = await rig.found(rig.services.everything(HOSTS))
    await rig.reader.txn([], [Delete(rig.services.everything(HOSTS))])
    host.registration.confirmed()

    async def again() -> bool:
        found = await rig.found(rig.services.everything(HOSTS))
        return {key: kv.value for key, kv in found.items()} == {key: kv.value for key, kv in before.items()}

    await rig.until_it(again, "the host and its leadership")
    await rig.stop_all()
