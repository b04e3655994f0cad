"""What a leader writes, on an etcd in memory."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from flynnhost.cluster.candidacy import Candidacy
from flynnhost.cluster.leader_keys import LOOK_EVERY, LeaderKeys
from flynnhost.cluster.records import Keys, LeaderRecord
from flynnhost.etcd.lease import Lease
from flynnhost.etcd.values import encode
from flynnhost.keyvalues import Delete, Found, Get, KeyRange, KeyValue, Put
from flynnhost.testing.etcd import FakeEtcd, turn

KEYS = Keys()
BESIDES = b"/flynn-host/also"


class Rig:
    """A host with a slot of its own."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.etcd = FakeEtcd(self.clock)
        self.client = self.etcd.client()
        self.lease = Lease(self.clock, self.clock.seconds, self.client, self, 10)
        self.lease.begin()
        self.run()
        self.slot = KEYS.candidate(0)
        self.do(Put(self.slot, b"h1", self.lease.id))
        self.candidacy = Candidacy(self.slot, self.read()[self.slot].create_revision, self.lease)
        self.keys = LeaderKeys(
            self.clock,
            self.client,
            KEYS,
            lambda term: LeaderRecord("h1", "h1:1113", term),
            lambda: {BESIDES: b"x"},
            lambda: 0.0,
        )

    def run(self, seconds: float = 0.1) -> None:
        turn(self.clock, seconds)

    def do(self, *operations: Put | Delete) -> None:
        self.etcd.store.txn((), operations, ())

    def read(self) -> dict[bytes, KeyValue]:
        (found,) = self.etcd.store.txn((), (Get(KeyRange.prefix(KEYS.prefix)),), ()).results
        assert isinstance(found, Found)
        return {kv.key: kv for kv in found.values}

    def written(self) -> dict[bytes, bytes]:
        return {key: kv.value for key, kv in self.read().items() if key != self.slot}

    def lease_lapsed(self) -> None:
        raise AssertionError

    lease_confirmed = lease_lost = lease_lapsed


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.keys.hold(rig.candidacy, 7)
    rig.run()
    return rig


def test_one_transaction(rig: Rig) -> None:
    """All is written at once, on the host's lease."""
    record = LeaderRecord("h1", "h1:1113", 7)
    assert rig.written() == {KEYS.leader: encode(record), BESIDES: b"x"}
    assert len({rig.read()[key].mod_revision for key in (KEYS.leader, BESIDES)}) == 1
    assert {kv.lease for kv in rig.read().values()} == {rig.lease.id}


@pytest.mark.parametrize("told", [False, True])
def test_written_again(rig: Rig, told: bool) -> None:
    """What somebody removed is there again after a while, or at once when that is told."""
    before = rig.written()
    rig.do(Delete(BESIDES))
    if told:
        rig.keys.look()
        rig.run()
    else:
        rig.run(LOOK_EVERY)
    assert rig.written() == before


@pytest.mark.parametrize("slot", ["gone", "another's", "made again"])
def test_never_without_the_slot(rig: Rig, slot: str) -> None:
    """Without its slot the host writes nothing, whatever it believes."""
    rig.do(Delete(rig.slot))
    if slot != "gone":
        rig.do(Put(rig.slot, b"h2", 0 if slot == "another's" else rig.lease.id))
    rig.do(Put(KEYS.leader, b"the next one's"), Delete(BESIDES))
    rig.run(3 * LOOK_EVERY)
    assert rig.written() == {KEYS.leader: b"the next one's"}
    rig.keys.let_go()
    rig.keys.hold(rig.candidacy, 7)
    rig.run(1)
    assert rig.written() == {KEYS.leader: b"the next one's"}


def test_let_go(rig: Rig) -> None:
    """Let go, they are left as they are, and as others make them."""
    rig.keys.let_go()
    assert len(rig.written()) == 2
    rig.do(Delete(BESIDES))
    rig.keys.look()
    rig.run(3 * LOOK_EVERY)
    assert list(rig.written()) == [KEYS.leader]
    rig.keys.let_go()


def test_removal(rig: Rig) -> None:
    """All that is written can be removed."""
    rig.keys.let_go()
    rig.do(*rig.keys.removal())
    assert rig.written() == {}
