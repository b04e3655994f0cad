"""Hosts among the services, through an etcd in memory."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from attrs import define, field
from twisted.internet.task import Clock

from flynnhost.cluster.presence import IPresenceUser, Presence
from flynnhost.cluster.records import HostRecord, Keys
from flynnhost.discovery.records import Instance, ServiceKeys, ServiceRecord
from flynnhost.discovery.registration import HOSTS, LOOK_EVERY, Registration
from flynnhost.etcd.lease import margin
from flynnhost.etcd.values import decode, encode
from flynnhost.keyvalues import Delete, Found, Get, KeyRange, KeyValue, Put
from flynnhost.testing.etcd import FakeEtcd, FakeEtcdClient, turn

TTL = 5
KEYS = ServiceKeys(b"/flynn-host/")


@define(eq=False)
class Host:
    """A host that is present, and registered."""

    name: str
    etcd: FakeEtcdClient
    clock: Clock
    addr: str = ""
    presence: Presence = field(init=False)
    registration: Registration = field(init=False)

    def __attrs_post_init__(self) -> None:
        chance = random.Random(self.name).random
        addr = self.addr = self.addr or f"{self.name}.example:1113"
        self.presence = Presence(
            self.clock,
            self.clock.seconds,
            self.etcd,
            Keys(),
            lambda: HostRecord(self.name, addr, self.name),
            TTL,
            chance,
        )
        self.registration = Registration(
            self.clock, self.etcd, KEYS, lambda: Instance(addr, meta={"id": self.name}), chance
        )
        user: IPresenceUser = self.registration
        self.presence.add(user)

    @property
    def key(self) -> bytes:
        return KEYS.instance(HOSTS, Instance(self.addr).id)

    def start(self) -> None:
        self.registration.startService()
        self.presence.startService()

    def stop(self) -> None:
        self.registration.stopService()
        self.presence.stopService()


class Rig:
    def __init__(self) -> None:
        self.clock = Clock()
        self.etcd = FakeEtcd(self.clock)

    def host(self, name: str, addr: str = "") -> Host:
        host = Host(name, self.etcd.client(name), self.clock, addr)
        host.start()
        self.run()
        return host

    def run(self, seconds: float = 0.2) -> None:
        turn(self.clock, seconds)

    def do(self, *operations: Put | Delete) -> None:
        self.etcd.store.txn((), operations, ())

    def read(self, keys: KeyRange = KEYS.all) -> dict[bytes, KeyValue]:
        (found,) = self.etcd.store.txn((), (Get(keys),), ()).results
        assert isinstance(found, Found)
        return {kv.key: kv for kv in found.values}

    def hosts(self) -> list[str]:
        """The IDs of those that are registered."""
        read = [decode(kv.value, Instance) for kv in self.read(KEYS.instances(HOSTS)).values()]
        return sorted(instance.meta["id"] for instance in read if instance)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_first_host(rig: Rig) -> None:
    """The first host makes the service, with a leader chosen by hand, and is its instance."""
    host = rig.host("h1")
    found = rig.read()
    assert {key: kv.value for key, kv in found.items()} == {
        KEYS.record(HOSTS): encode(ServiceRecord("manual")),
        host.key: encode(Instance("h1.example:1113", meta={"id": "h1"})),
    }
    assert found[KEYS.record(HOSTS)].lease == 0
    assert found[host.key].lease == host.presence._lease.id  # type: ignore[union-attr]


def test_further_hosts(rig: Rig) -> None:
    """A further host leaves the service as it is. What each has as its index stays."""
    first = rig.host("h1")
    before = rig.read()
    second = rig.host("h2")
    rig.run(3 * LOOK_EVERY)
    found = rig.read()
    assert {key: kv for key, kv in found.items() if key != second.key} == before
    assert found[first.key].create_revision < found[second.key].create_revision


def test_service_of_another_kind(rig: Rig) -> None:
    """A service that somebody made first, whose oldest instance would lead, is put right."""
    rig.do(Put(KEYS.record(HOSTS), encode(ServiceRecord("oldest"))))
    rig.host("h1")
    assert decode(rig.read()[KEYS.record(HOSTS)].value, ServiceRecord) == ServiceRecord("manual")
    assert rig.hosts() == ["h1"]


def test_stopped(rig: Rig) -> None:
    """A host that is stopped is registered no longer; the service remains."""
    host = rig.host("h1")
    host.stop()
    rig.run(0.05)
    assert list(rig.read()) == [KEYS.record(HOSTS)]
    rig.run(60)
    assert not rig.clock.getDelayedCalls()


def test_killed(rig: Rig) -> None:
    """A host that says nothing any more is registered until its lease ends."""
    host = rig.host("h1")
    host.etcd.partition()
    rig.run(TTL - 2)
    assert rig.hosts() == ["h1"]
    rig.run(2)
    assert rig.hosts() == []


def test_restarted(rig: Rig) -> None:
    """The next process of a host takes over the entry, which outlives the lease of the last one."""
    host = rig.host("h1")
    before = rig.read()[host.key]
    host.etcd.partition()
    again = rig.host("h1")
    for _ in range(20):
        rig.run(1)
        assert rig.read()[again.key].create_revision == before.create_revision
    assert rig.read()[again.key].lease != before.lease


@pytest.mark.parametrize("trouble", ["partition", "etcd is down", "etcd has ended the lease"])
def test_back_again(rig: Rig, trouble: str) -> None:
    """A host that has lost its lease is registered again when it has a new one."""
    host = rig.host("h1")
    if trouble == "partition":
        host.etcd.partition()
    elif trouble == "etcd is down":
        rig.etcd.stop()
    else:
        rig.etcd.revoke(host.presence._lease.id)  # type: ignore[union-attr]
    rig.run(2 * TTL)
    host.etcd.heal()
    rig.etcd.start()
    rig.run(2 * TTL)
    assert rig.hosts() == ["h1"]
    host.stop()
    rig.run(60)
    assert rig.hosts() == []
    assert not rig.clock.getDelayedCalls()


def test_removed_during_a_lapse(rig: Rig) -> None:
    """A host whose lease lapsed, and lasts still, looks whether it is registered."""
    host = rig.host("h1")
    rig.etcd.lose_leader(TTL - margin(TTL) + 1)  # leases last longer meanwhile
    rig.run(TTL - margin(TTL) + 0.5)
    rig.do(Delete(host.key))
    rig.run(5)
    assert rig.hosts() == ["h1"]


@pytest.mark.parametrize("removed", [KEYS.everything(HOSTS), KEYS.instances(HOSTS), KEYS.record(HOSTS)])
def test_somebody_removes_it(rig: Rig, removed: KeyRange | bytes) -> None:
    """A host that somebody else has taken out, or with the whole service, comes back by itself."""
    host = rig.host("h1")
    before = rig.read()
    rig.do(Delete(removed))
    rig.run(LOOK_EVERY + 1)
    found = rig.read()
    assert {key: kv.value for key, kv in found.items()} == {key: kv.value for key, kv in before.items()}
    host.stop()
    rig.run()
    assert rig.hosts() == []


def test_two_hosts_with_one_address(rig: Rig) -> None:
    """Two hosts that say that they have the same address don't fight for the one entry."""
    first = rig.host("h1", "same.example:1113")
    second = rig.host("h2", "same.example:1113")
    revision = rig.read()[first.key].mod_revision
    rig.run(3 * LOOK_EVERY)
    assert rig.read()[first.key].mod_revision == revision
    second.stop()
    rig.run(LOOK_EVERY + 1)
    assert rig.hosts() == ["h1"]


def test_etcd_answers_nothing(rig: Rig) -> None:
    """What is written and not answered is written again, until it is known to be there."""
    host = Host("h1", rig.etcd.client("h1"), rig.clock)
    host.start()
    rig.run(0.005)
    for _ in range(3):
        host.etcd.lose_answers(1)
        rig.run(5)
    rig.run(10)
    assert rig.hosts() == ["h1"]


def test_stopped_while_it_tries(rig: Rig) -> None:
    """A host that is stopped before it could be registered tries no longer."""
    host = Host("h1", rig.etcd.client("h1"), rig.clock)
    host.start()
    while host.registration._kept is None:
        rig.run(0.0005)
    rig.etcd.stop()
    rig.run(1)
    calls = host.etcd.calls
    rig.run(1)
    assert host.etcd.calls > calls
    host.stop()
    rig.run()
    calls = host.etcd.calls
    rig.etcd.start()
    rig.run(60)
    assert rig.hosts() == []
    assert host.etcd.calls == calls


def test_not_running(rig: Rig) -> None:
    """What is told after the end does nothing."""
    host = rig.host("h1")
    host.registration.stopService()
    rig.do(Delete(host.key))
    host.registration.present(host.presence._lease)  # type: ignore[arg-type]
    host.registration.confirmed()
    rig.run(2 * LOOK_EVERY)
    assert rig.hosts() == []


def test_leader(rig: Rig) -> None:
    """The service's leader is named by its instance's ID."""
    host = rig.host("h1")
    assert host.registration.leader_keys() == {KEYS.leader(HOSTS): Instance(host.addr).id.encode()}


@pytest.mark.parametrize("seed", range(10))
def test_whatever_breaks(seed: int) -> None:
    """Whatever breaks, all hosts are registered in the end, each once."""
    chance, rig = random.Random(seed), Rig()
    hosts = [rig.host(f"h{number}") for number in range(4)]
    for _ in range(12):
        etcd = chance.choice(hosts).etcd
        disturbances: list[Callable[[], object]] = [
            etcd.partition,
            etcd.heal,
            lambda etcd=etcd: etcd.lose_answers(chance.randrange(3)),  # type: ignore[misc]
            lambda: rig.etcd.lose_leader(chance.random() * 4),
            lambda: rig.do(Delete(KEYS.everything(HOSTS))),
            lambda: rig.do(Delete(chance.choice(hosts).key)),
        ]
        chance.choice(disturbances)()
        rig.run(chance.random() * 6)
    for host in hosts:
        host.etcd.heal()
    rig.run(LOOK_EVERY + 10)
    assert rig.hosts() == ["h0", "h1", "h2", "h3"]
    for host in hosts:
        host.stop()
    rig.run()
    assert list(rig.read()) == [KEYS.record(HOSTS)]
