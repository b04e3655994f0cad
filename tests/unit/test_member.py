"""A host's part in a cluster, through an etcd in memory."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from twisted.internet.defer import Deferred, succeed

from flynnhost.cluster.etcd_election import MAX_CANDIDATES
from flynnhost.cluster.leader import Leader
from flynnhost.cluster.records import HostRecord, Keys, LeaderRecord
from flynnhost.discovery.records import Instance, ServiceKeys
from flynnhost.discovery.registration import HOSTS
from flynnhost.etcd.values import decode, encode
from flynnhost.keyvalues import Found, Get, KeyRange, KeyValue
from flynnhost.member import Identity, Member
from flynnhost.services import OrderedServices
from flynnhost.testing.etcd import FakeEtcd, turn
from flynnhost.testing.world import World

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADDR = "192.0.2.1:1113"
SERVICES = ServiceKeys(Keys().prefix)


class Rig:
    """A host whose agent is ready."""

    def __init__(self) -> None:
        self.world = World()
        self.etcd = FakeEtcd(self.world.clock)
        self.client = self.etcd.client()
        self.terms: list[int] = []
        self.member = Member(
            self.world.clock,
            self.world.clock.seconds,
            self.client,
            Identity("h1", "instance", "boot"),
            self.world.start(),
            self,
            lambda: ADDR,
            lambda _term: NOW,
            5,
        )

    def elected(self, term: int) -> Deferred[None]:
        self.terms.append(term)
        return succeed(None)

    def deposed(self) -> Deferred[None]:
        return succeed(None)

    def run(self, seconds: float = 1.0) -> None:
        turn(self.world.clock, seconds)

    def read(self) -> dict[bytes, KeyValue]:
        (found,) = self.etcd.store.txn((), (Get(KeyRange.prefix(Keys().prefix)),), ()).results
        assert isinstance(found, Found)
        return {kv.key: kv for kv in found.values}


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.member.startService()
    rig.run()
    return rig


def test_leads(rig: Rig) -> None:
    """The first host is elected, and says so to all, in whichever way they look for it."""
    assert rig.member.leads()
    (term,) = rig.terms
    found = rig.read()
    record = LeaderRecord("h1", ADDR, term, "2026-01-01T00:00:00Z")
    assert decode(found[Keys().leader].value, LeaderRecord) == record
    instance = Instance(ADDR, meta={"id": "h1"})
    assert found[SERVICES.instance(HOSTS, instance.id)].value == encode(instance)
    assert found[SERVICES.leader(HOSTS)].value == instance.id.encode()
    assert rig.member.following.leader() == record
    assert rig.member.following.current()


def test_without_etcd(rig: Rig) -> None:
    """Who leads is not certain any more when etcd is not heard of for as long as a lease lasts."""
    rig.client.partition()
    rig.run(5)
    assert not rig.member.following.current()


def test_stopped(rig: Rig) -> None:
    """A host that is stopped is gone at once: only what is to outlive it is left."""
    rig.member.stopService()
    rig.run(0.1)
    assert sorted(rig.read()) == sorted([Keys().member("h1"), SERVICES.record(HOSTS)])


def test_asked_to_be_a_candidate() -> None:
    """A host that found no free slot takes one when the leader asks it to."""
    rig = Rig()
    others = rig.etcd.client("others")
    for slot in range(MAX_CANDIDATES):
        others.put(Keys().candidate(slot), b"other")
    others.put(Keys().leader, encode(LeaderRecord("h1", "192.0.2.9:1113", 1)))
    rig.run()
    rig.member.startService()
    rig.run(120)
    others.delete(Keys().candidate(3))
    rig.run(120)
    assert Keys().candidate(3) not in rig.read()
    rig.member._session._invited()
    rig.run()
    assert rig.read()[Keys().candidate(3)].value == b"h1"


def test_asks_others(rig: Rig) -> None:
    """Where the leader is, the others that are registered are asked to be candidates while slots are free."""
    asked: list[str] = []

    class Asking(Leader):
        def invite(self, host_id: str) -> bool:
            asked.append(host_id)
            return True

    leader = Asking(rig.world.clock, lambda: NOW, rig.terms[0], "h1", ADDR, rig.member.leads, None)
    services = OrderedServices(rig.world.clock)
    leader.setServiceParent(services)
    rig.member.look_after(leader, services)
    for name in ("h3", "h2"):
        rig.etcd.client("others").put(Keys().host(name), encode(HostRecord(name, "10.0.0.2:1113", name)))
        rig.run(0.1)
    services.startService()
    rig.run(30)
    assert asked == ["h3", "h2"]
    services.stopService()
    rig.run(0.1)
