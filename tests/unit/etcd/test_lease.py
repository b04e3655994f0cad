"""A lease by the clock that nobody can set, on an etcd in memory."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from flynnhost.errors import EtcdUnavailable
from flynnhost.etcd.clocks import boottime, make_steady
from flynnhost.etcd.lease import Lease, margin
from flynnhost.testing.etcd import FakeEtcd, FakeEtcdClient, turn


class Holder:
    def __init__(self) -> None:
        self.told: list[str] = []

    def lease_lapsed(self) -> None:
        self.told.append("lapsed")

    def lease_confirmed(self) -> None:
        self.told.append("confirmed")

    def lease_lost(self) -> None:
        self.told.append("lost")


class Rig:
    """A lease of 6 s, that is confirmed every 2 s and given up 1 s early."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.slept = 0.0
        self.etcd = FakeEtcd(self.clock)
        self.client: FakeEtcdClient = self.etcd.client()
        self.holder = Holder()
        self.lease = Lease(self.clock, lambda: self.clock.seconds() + self.slept, self.client, self.holder, 6)

    def begin(self) -> Any:
        begun = self.lease.begin()
        self.run(0.01)
        return begun

    def run(self, seconds: float) -> None:
        turn(self.clock, seconds)

    def at_etcd(self) -> bool:
        return self.etcd.store.leases == 1


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_is_kept_alive(rig: Rig) -> None:
    """A lease lasts as long as it is confirmed, three times in each TTL."""
    assert not rig.lease.valid()
    assert rig.begin().called
    calls = rig.client.calls
    for _ in range(300):
        rig.run(0.1)
        assert rig.lease.valid()
        assert rig.lease.remaining() > 6 - 1 - 2 - 0.1
    assert 14 <= rig.client.calls - calls <= 15
    assert rig.holder.told == []


def test_counts_from_the_sending(rig: Rig) -> None:
    """A lease is counted upon from when the keep-alive was sent, however late its answer came."""
    rig.client.latency = 0.9
    begun = rig.lease.begin()
    rig.run(1.9)
    assert begun.called
    assert rig.lease.remaining() == pytest.approx(6 - 1 - 1.9)


def test_the_margin() -> None:
    """The margin is a fifth of the TTL, and a second at the most."""
    assert margin(2) == pytest.approx(0.4)
    assert (margin(5), margin(60)) == (1.0, 1.0)


def test_lapses_before_it_can_end(rig: Rig) -> None:
    """Without a confirmation the holder knows that it must not count on the lease before it ends at etcd."""
    rig.begin()
    rig.run(2.5)
    rig.client.partition()
    while not rig.holder.told:
        assert rig.at_etcd()
        rig.run(0.01)
    assert rig.holder.told == ["lapsed"]
    assert not rig.lease.valid()
    assert rig.at_etcd()
    rig.run(1.1)
    assert not rig.at_etcd()
    rig.client.heal()
    rig.run(4)
    assert rig.holder.told == ["lapsed", "lost"]
    assert not rig.lease.valid()
    assert rig.clock.getDelayedCalls() == []


def test_is_confirmed_after_a_lapse(rig: Rig) -> None:
    """A lease that lapsed but did not end is said to be there still; until then it is not valid."""
    rig.begin()
    rig.client.partition()
    rig.run(5.5)
    assert rig.holder.told == ["lapsed"]
    rig.etcd.store.extend_all(rig.clock.seconds())
    rig.client.heal()
    rig.run(3)
    assert rig.holder.told == ["lapsed", "confirmed"]
    assert rig.lease.valid()


def test_the_answer_that_waited(rig: Rig) -> None:
    """An answer that is read only after the machine slept past the lease's end makes nothing valid."""
    rig.client.latency = 0.5
    rig.lease.begin()
    rig.run(0.99)
    rig.slept = 30
    rig.run(0.02)
    assert rig.holder.told == ["lapsed"]
    assert not rig.lease.valid()


def test_sleep_is_noticed_before_the_next_confirmation(rig: Rig) -> None:
    """A process that slept through its lease is told of the lapse, though the lease is alive at etcd."""
    rig.begin()
    rig.run(1.5)
    rig.slept = 30
    assert not rig.lease.valid()
    rig.run(1)
    assert rig.holder.told == ["lapsed", "confirmed"]


def test_a_wall_clock_set_back_keeps_nothing_valid(rig: Rig) -> None:
    """When timers hang because their clock was set back, the lease is not valid longer for that."""
    rig.begin()
    rig.slept += 5.5  # by the steady clock that much went by, while no timer was due
    assert not rig.lease.valid()
    assert rig.holder.told == []


def test_lost(rig: Rig) -> None:
    """A lease that etcd has revoked though it was alive is lost at the next keep-alive, for good."""
    rig.begin()
    rig.etcd.revoke(rig.lease.id)
    rig.run(2.5)
    assert rig.holder.told == ["lost"]
    assert rig.lease.lost
    assert not rig.lease.valid()
    assert rig.clock.getDelayedCalls() == []


def test_outlives_a_short_loss_of_etcd(rig: Rig) -> None:
    """A change of etcd's leader that is shorter than the TTL is not noticed by the holder."""
    rig.begin()
    rig.run(1.9)
    rig.etcd.lose_leader(2.2)
    rig.run(20)
    assert rig.holder.told == []
    assert rig.lease.valid()


def test_revoked(rig: Rig) -> None:
    """Revoking ends the lease at etcd at once, and the holder is not bothered."""
    rig.begin()
    revoked = rig.lease.revoke()
    assert not rig.lease.valid()
    rig.run(0.01)
    assert revoked.called
    assert not rig.at_etcd()
    assert rig.holder.told == []
    assert rig.clock.getDelayedCalls() == []


def test_revoked_in_vain(rig: Rig) -> None:
    """Revoking succeeds, with nothing left running, when etcd does not answer: the lease ends by itself."""
    rig.begin()
    rig.client.partition()
    revoked = rig.lease.revoke()
    rig.run(5.1)
    assert revoked.called
    rig.run(1)
    assert not rig.at_etcd()
    assert rig.clock.getDelayedCalls() == []


def test_abandoned(rig: Rig) -> None:
    """A lease that is abandoned is not valid from then on, and ends by itself."""
    rig.begin()
    assert rig.lease.abandon().called
    assert not rig.lease.valid()
    rig.run(5.9)
    assert rig.at_etcd()
    rig.run(0.2)
    assert not rig.at_etcd()


def test_not_granted(rig: Rig) -> None:
    """When etcd does not answer there is no lease, and it is said so."""
    rig.etcd.stop()
    failures: list[Any] = []
    rig.begin().addErrback(failures.append)
    assert failures[0].check(EtcdUnavailable)
    assert not rig.lease.valid()
    assert rig.lease.revoke().called
    assert rig.clock.getDelayedCalls() == []


def test_never_shorter_than_etcd_grants(rig: Rig) -> None:
    """The TTL counts that etcd has granted, not the one that was asked for."""
    lease = Lease(rig.clock, rig.clock.seconds, rig.client, rig.holder, 1)
    lease.begin()
    rig.run(0.01)
    assert lease.ttl == 2
    assert lease.remaining() == pytest.approx(2 - 0.4 - 0.01)


def test_timers_that_nobody_can_set() -> None:
    """A reactor that was made steady goes by a clock that the wall clock does not move."""
    from twisted.internet.selectreactor import SelectReactor

    reactor = SelectReactor()
    make_steady(reactor)
    assert abs(reactor.seconds() - boottime()) < 365 * 86400
    assert reactor.seconds() < 1e9, "this is the wall clock"
    fired: list[None] = []
    reactor.callLater(0, fired.append, None)
    reactor.runUntilCurrent()
    assert fired == [None]
    for waker in list(reactor._internalReaders):
        reactor.removeReader(waker)
        waker.connectionLost(None)


@pytest.mark.parametrize("end", ["abandon", "revoke"])
def test_given_up_from_within(rig: Rig, end: str) -> None:
    """A holder may give the lease up from within whatever it is told, and is told nothing more."""

    def give_up(what: str) -> None:
        rig.holder.told.append(what)
        ended.append(getattr(rig.lease, end)())

    for trouble in ("lapsed", "confirmed", "lost"):
        rig = Rig()
        ended: list[Any] = []
        setattr(rig.holder, f"lease_{trouble}", lambda what=trouble: give_up(what))
        rig.begin()
        if trouble == "lost":
            rig.etcd.revoke(rig.lease.id)
        else:
            rig.client.partition()
            rig.run(5.5)
            rig.etcd.store.extend_all(rig.clock.seconds())
            rig.client.heal()
        rig.run(20)
        assert rig.holder.told[-1] == trouble
        assert ended[0].called
        assert not rig.at_etcd()
        assert rig.clock.getDelayedCalls() == []
