"""Elections among many hosts, through an etcd in memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from flynnhost.cluster.campaign import COME_FORWARD
from flynnhost.cluster.etcd_election import MAX_CANDIDATES, EtcdElection
from flynnhost.cluster.following import LeaderFollower
from flynnhost.cluster.leader import Leader
from flynnhost.cluster.presence import Presence
from flynnhost.cluster.records import HostRecord, Keys, LeaderRecord
from flynnhost.cluster.registered import RegisteredHosts
from flynnhost.cluster.terms import MAX_TERM
from flynnhost.cluster.vacancies import LOOK_EVERY, Vacancies
from flynnhost.errors import CannotLead, Compacted
from flynnhost.etcd.values import decode
from flynnhost.keyvalues import Delete, Found, KeyRange, KeyValue, Put
from flynnhost.testing.etcd import FakeEtcd, FakeEtcdClient
from flynnhost.testing.swift_clock import SwiftClock

TTL = 5

BESIDES = b"/flynn-host/also"
"""What a leader writes beside its record."""


@define(eq=False)
class _Host:
    """The parts of a host that elections are made of.

    :param invite: asks another host to become a candidate.
    """

    name: str
    etcd: FakeEtcdClient
    invite: Callable[[str], bool]
    clock: Clock | SwiftClock
    instance: str = ""
    heard: int = 0
    terms: list[int] = field(factory=list)
    leads: bool = False
    unable: bool = False
    deposes: Deferred[None] = field(factory=lambda: succeed(None))
    leading: list[Service] = field(factory=list)
    presence: Presence = field(init=False)
    election: EtcdElection = field(init=False)
    follower: LeaderFollower = field(init=False)

    def __attrs_post_init__(self) -> None:
        keys, addr, chance = Keys(), f"{self.name}:1113", random.Random(self.name).random
        instance = self.instance or self.name
        self.presence = Presence(
            self.clock,
            self.clock.seconds,
            self.etcd,
            keys,
            lambda: HostRecord(self.name, addr, instance),
            TTL,
            chance,
        )
        self.election = EtcdElection(
            self.clock,
            self.etcd,
            keys,
            self.name,
            self,
            lambda term: LeaderRecord(self.name, addr, term),
            lambda: {BESIDES: self.name.encode()},
            chance=chance,
            heard=lambda: self.heard,
        )
        self.follower = LeaderFollower(self.clock, self.etcd, keys, chance)
        self.presence.add(self.election)
        self.follower.add(self.election.leader_changed)

    def elected(self, term: int) -> Deferred[None]:
        assert not self.leads
        self.leads = True
        now = datetime(2020, 1, 1, tzinfo=UTC)
        leader = Leader(self.clock, lambda: now, term, self.name, "", self.election.leads, None)
        keys, chance = Keys(), self.election._chance
        registered = RegisteredHosts(self.clock, self.etcd, keys, leader, self.election.condition, chance)
        vacancies = Vacancies(
            self.clock, MAX_CANDIDATES, self.election.candidates, registered.since, self.invite
        )
        self.leading = [leader, registered, vacancies]
        for service in self.leading:
            service.startService()
        self.heard = max(self.heard, term)
        self.terms.append(term)
        return fail(CannotLead(term)) if self.unable else succeed(None)

    def deposed(self) -> Deferred[None]:
        self.leads = False
        for service in self.leading:
            service.stopService()
        self.leading = []
        return self.deposes

    def start(self) -> None:
        for service in (self.follower, self.election, self.presence):
            service.startService()

    def stop(self) -> None:
        self.election.stopService()
        self.presence.stopService()
        self.follower.stopService()


@define(eq=False)
class _Cluster:
    """Hosts that share an etcd."""

    clock: Clock | SwiftClock = field(factory=Clock)
    etcd: FakeEtcd = field(init=False)
    hosts: list[_Host] = field(factory=list)
    invited: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.etcd = FakeEtcd(self.clock)

    def make(self, name: str, instance: str = "", heard: int = 0) -> _Host:
        """A host that is not started yet."""
        host = _Host(name, self.etcd.client(name), self.invite, self.clock, instance, heard)
        self.hosts.append(host)
        return host

    def invite(self, name: str) -> bool:
        """Ask a host to become a candidate, as the leader does on its session."""
        self.invited.append(name)
        for host in self.hosts:
            if host.name == name and host.election.running and not host.etcd.cut_off:
                self.clock.callLater(0.01, host.election.campaign)
                return True
        return False

    def add(self, name: str, instance: str = "", heard: int = 0) -> _Host:
        host = self.make(name, instance, heard)
        host.start()
        return host

    def pass_time(self, seconds: float, step: float = 0.05) -> None:
        """Let time pass; at no moment do two hosts lead."""
        for _ in range(int(seconds / step) + 1):
            self.clock.advance(step)
            assert len([host for host in self.hosts if host.election.leads()]) <= 1

    def slots(self) -> list[bytes]:
        """Who holds slots."""
        found: list[Found] = []
        self.etcd.client().get(Keys().candidates).addCallback(found.append)
        self.pass_time(0.2)
        return sorted(kv.value for kv in found[0].values)

    def compact(self) -> None:
        """Have etcd forget what was."""
        with suppress(Compacted):
            self.etcd.compact()

    def disturb(self, chance: random.Random) -> None:
        """Break or mend something."""
        etcd = chance.choice(self.hosts).etcd
        disturbances: list[Callable[[], object]] = [
            etcd.partition,
            etcd.heal,
            lambda: etcd.lose_answers(chance.randrange(3)),
            lambda: self.etcd.lose_leader(chance.random() * 4),
            self.compact,
            lambda: etcd.partition(requests=False),
        ]
        chance.choice(disturbances)()

    def written(self) -> tuple[LeaderRecord | None, str | None]:
        """The leader's record, and whose is what a leader writes beside it, as etcd has them."""
        found = {kv.key: kv for kv in self.read(KeyRange.prefix(b"/flynn-host/"))}
        record, besides = found.get(Keys().leader), found.get(BESIDES)
        leases = {kv.lease for kv in (record, besides) if kv is not None}
        assert 0 not in leases
        assert len(leases) <= 1
        return (
            None if record is None else decode(record.value, LeaderRecord),
            None if besides is None else besides.value.decode(),
        )

    def read(self, keys: KeyRange) -> tuple[KeyValue, ...]:
        """What etcd has."""
        found: list[Found] = []
        self.etcd.client().get(keys).addCallback(found.append)
        self.pass_time(0.1)
        return found[0].values

    def do(self, *operations: Put | Delete) -> None:
        """What an operator does."""
        self.etcd.client().txn([], operations)
        self.pass_time(0.1)

    def leader(self) -> _Host:
        (leader,) = [host for host in self.hosts if host.leads]
        assert leader.election.leads()
        return leader


@pytest.fixture
def cluster() -> _Cluster:
    """Three hosts, the first of which leads."""
    cluster = _Cluster()
    for name in ("h1", "h2", "h3"):
        cluster.add(name)
        cluster.pass_time(1)
    return cluster


def test_leader_is_unable(cluster: _Cluster) -> None:
    """A host that is elected and can't lead lets the next one lead at once, and tries again much later."""
    first, second, third = cluster.hosts
    second.unable = True
    first.stop()
    cluster.pass_time(0.5)
    assert cluster.leader() is third
    assert third.follower.leader == LeaderRecord("h3", "h3:1113", third.terms[-1])
    assert len(second.terms) == 1
    cluster.pass_time(70)
    assert cluster.slots() == [b"h2", b"h3"]
    assert (cluster.leader(), len(second.terms)) == (third, 1)


def test_everyone_is_unable() -> None:
    """While no host can lead they try in turn, ever more rarely; as soon as one can it does."""
    cluster = _Cluster()
    for name in ("h1", "h2", "h3"):
        cluster.add(name).unable = True
    cluster.pass_time(600)
    tries = [len(host.terms) for host in cluster.hosts]
    assert all(5 < each < 40 for each in tries), tries
    assert cluster.hosts[0].follower.leader is None
    cluster.hosts[1].unable = False
    cluster.pass_time(70)
    assert cluster.leader() is cluster.hosts[1]


def test_unable_and_etcd_does_not_answer(cluster: _Cluster) -> None:
    """A host that can't lead, and can't say so, says it as soon as it can."""
    first, second, third = cluster.hosts
    second.unable = True
    second.etcd.lose_answers(3)
    first.stop()
    cluster.pass_time(10)
    assert cluster.leader() is third
    assert len(second.terms) == 1


def test_unable_and_stopped(cluster: _Cluster) -> None:
    """A host that is stopped while it rests is gone."""
    first, second, _ = cluster.hosts
    second.unable = True
    first.stop()
    cluster.pass_time(0.5)
    second.stop()
    cluster.pass_time(100)
    assert cluster.slots() == [b"h3"]
    assert len(second.terms) == 1


def test_first_comes_first(cluster: _Cluster) -> None:
    """The host that was there first leads, its term is its key's revision, and all know it."""
    assert cluster.leader().name == "h1"
    (term,) = cluster.leader().terms
    assert [host.follower.leader for host in cluster.hosts] == [LeaderRecord("h1", "h1:1113", term)] * 3
    cluster.pass_time(60)
    assert cluster.leader().terms == [term]


def test_leader_is_cut_off(cluster: _Cluster) -> None:
    """A leader that can't reach etcd steps down before another leads, which is soon after the TTL."""
    first = cluster.leader()
    first.etcd.partition()
    cluster.pass_time(TTL + 2)
    second = cluster.leader()
    assert second is not first
    assert second.terms[0] > first.terms[0]
    assert second.follower.leader == LeaderRecord(second.name, f"{second.name}:1113", second.terms[0])
    first.etcd.heal()
    cluster.pass_time(20)
    assert cluster.leader() is second
    assert first.follower.leader == second.follower.leader


def test_what_a_leader_writes(cluster: _Cluster) -> None:
    """What a leader writes beside its record comes and goes with it, in one transaction."""
    first = cluster.leader()
    assert cluster.written() == (LeaderRecord("h1", "h1:1113", first.terms[0]), "h1")
    first.etcd.partition()
    for _ in range(60):
        cluster.pass_time(0.1)
        record, besides = cluster.written()
        assert besides == (record and record.id)
    second = cluster.leader()
    assert cluster.written() == (
        LeaderRecord(second.name, f"{second.name}:1113", second.terms[0]),
        second.name,
    )


def test_the_last_leader_leaves_nothing(cluster: _Cluster) -> None:
    """A leader that resigns removes what it wrote at once, also when nobody is there to follow it."""
    for host in cluster.hosts[1:]:
        host.stop()
    cluster.pass_time(0.2)
    host = cluster.leader()
    host.election.stopService()
    cluster.pass_time(0.1)
    assert cluster.written() == (None, None)
    assert len(cluster.read(Keys().hosts)) == 1


@pytest.mark.parametrize(
    "touch",
    [
        Delete(Keys().leader),
        Delete(BESIDES),
        Put(Keys().leader, b"what?"),
        Put(BESIDES, b"h3"),
    ],
)
def test_somebody_touches_what_a_leader_wrote(cluster: _Cluster, touch: Put | Delete) -> None:
    """What a leader wrote is put right within seconds, and nobody is deposed."""
    before = cluster.written()
    cluster.do(touch)
    cluster.pass_time(6)
    assert cluster.written() == before
    assert cluster.leader().terms == [before[0] and before[0].term]
    for host in cluster.hosts:
        assert host.follower.leader == before[0]


def test_nothing_goes_on_after_the_end(cluster: _Cluster) -> None:
    """A host that led, lost its slot to somebody's hand, and was stopped, does nothing any more."""
    (slot, *_) = cluster.read(Keys().candidates)
    cluster.do(Delete(slot.key))
    cluster.pass_time(1)
    assert cluster.leader().name == "h2"
    for host in cluster.hosts:
        host.stop()
    cluster.pass_time(20)
    assert cluster.written() == (None, None)
    assert not cluster.clock.getDelayedCalls()


def test_resigning_is_quick(cluster: _Cluster) -> None:
    """A leader that stops hands over in a moment."""
    first = cluster.leader()
    first.stop()
    cluster.pass_time(0.5)
    assert cluster.leader() is not first


def test_etcd_without_a_leader(cluster: _Cluster) -> None:
    """While etcd elects its own leader, ours stays, or at the worst steps down: there are never two."""
    first = cluster.leader()
    cluster.etcd.lose_leader(2.0)
    cluster.pass_time(10)
    assert cluster.leader() is first
    assert len(first.terms) == 1


def test_etcd_gone_for_a_minute(cluster: _Cluster) -> None:
    """Nobody leads while etcd is gone, and somebody does soon after it is back."""
    first = cluster.leader()
    cluster.etcd.stop()
    cluster.pass_time(TTL)
    assert not [host for host in cluster.hosts if host.leads]
    cluster.pass_time(55)
    cluster.etcd.start()
    cluster.pass_time(10)
    assert cluster.leader() is first
    assert first.terms[0] == first.terms[-1]


def test_live_lease_is_revoked(cluster: _Cluster) -> None:
    """When etcd ends a lease that is alive, its host is deposed and another leads, in a later term."""
    first = cluster.leader()
    lease = first.presence._lease
    assert lease is not None
    cluster.etcd.revoke(lease.id)
    cluster.pass_time(5)
    second = cluster.leader()
    assert second is not first
    assert second.terms[-1] > first.terms[0]


def test_answers_that_are_lost(cluster: _Cluster) -> None:
    """A host whose claim was stored but not answered holds one slot, not two."""
    host = cluster.make("h4")
    host.etcd.lose_answers(4)
    host.start()
    cluster.pass_time(30)
    assert cluster.slots() == [b"h1", b"h2", b"h3", b"h4"]


# --- the slots of many hosts --------------------------------------------------


def many(count: int) -> _Cluster:
    """A cluster of h0, h1 and so on, each of which was there before the next."""
    cluster = _Cluster()
    for number in range(count):
        cluster.add(f"h{number}")
        cluster.pass_time(0.1)
    cluster.pass_time(2)
    return cluster


def test_candidates_are_bounded() -> None:
    """Of many hosts seven are candidates; when the leader is gone the vacant slot is taken."""
    cluster = many(12)
    assert cluster.slots() == [b"h%d" % number for number in range(7)]
    cluster.leader().stop()
    cluster.pass_time(LOOK_EVERY + 1)
    assert cluster.slots() == [b"h%d" % number for number in range(1, 8)]
    assert cluster.leader().name == "h1"


def test_candidate_dies() -> None:
    """The slot of a candidate that is gone is for the host that is there for longest, which is asked."""
    cluster = many(12)
    cluster.hosts[3].etcd.partition()
    cluster.pass_time(TTL + LOOK_EVERY + 1)
    assert cluster.slots() == [b"h%d" % number for number in (0, 1, 2, 4, 5, 6, 7)]
    cluster.pass_time(200)
    assert cluster.invited == ["h7"]


def test_those_who_do_not_come_forward() -> None:
    """Whoever can't be asked, or is no candidate a while after, is passed over for a time."""
    cluster = many(11)
    cluster.hosts[8].unable = True
    cluster.hosts[8].election._campaign._resting = True
    cluster.hosts[0].stop()
    cluster.hosts[1].stop()
    cluster.hosts[7].etcd.partition()
    cluster.pass_time(3 * LOOK_EVERY)
    assert cluster.slots() == [b"h%d" % number for number in (10, 2, 3, 4, 5, 6, 9)]
    assert cluster.invited.count("h8") == 1


def test_few_hosts_have_free_slots(cluster: _Cluster) -> None:
    """Where there are fewer hosts than slots nobody is asked."""
    cluster.pass_time(120)
    assert cluster.invited == []


def test_candidates_die_before_they_lead() -> None:
    """Others come forward when all who hold slots are gone, though none of them ever led."""
    cluster = _Cluster()
    client = cluster.etcd.client("gone")
    for number in range(MAX_CANDIDATES):
        client.put(Keys().candidate(number), b"gone")
    cluster.pass_time(0.1)
    cluster.add("h1")
    cluster.pass_time(20)
    assert not cluster.hosts[0].leads
    for number in range(MAX_CANDIDATES):
        client.delete(Keys().candidate(number))
    cluster.pass_time(COME_FORWARD)
    assert cluster.leader().name == "h1"


def test_a_thousand_hosts() -> None:
    """What a change asks of etcd does not depend on how many hosts there are."""
    clock = SwiftClock()
    cluster = _Cluster(clock)
    for number in range(1_000):
        cluster.add(f"h{number}")
        clock.advance(0.005)
    clock.advance(5)

    def candidates() -> list[_Host]:
        return [host for host in cluster.hosts if host.election._candidacy and not host.etcd.cut_off]

    def requests(work: Callable[[], object], seconds: float) -> int:
        """How many requests are made because of something, besides the signs of life."""
        before = sum(host.etcd.calls - host.etcd.keep_alives for host in cluster.hosts)
        work()
        clock.advance(seconds)
        assert len(candidates()) == MAX_CANDIDATES
        return sum(host.etcd.calls - host.etcd.keep_alives for host in cluster.hosts) - before

    def all_die() -> None:
        for host in candidates():
            host.etcd.partition()

    first = cluster.leader()
    assert requests(lambda: None, 10) < 10
    follower = next(host for host in candidates() if host is not first)
    assert requests(follower.etcd.partition, TTL + LOOK_EVERY + 1) < 20
    assert requests(first.etcd.partition, TTL + LOOK_EVERY + 1) < 30
    second = cluster.leader()
    assert second is not first
    assert requests(second.stop, LOOK_EVERY + 1) < 30
    assert requests(all_die, TTL + LOOK_EVERY + 3) < 300
    cluster.leader()


def test_all_candidates_die_at_once() -> None:
    """When all candidates are lost, others come forward."""
    cluster = _Cluster()
    for number in range(10):
        cluster.add(f"h{number}")
        cluster.pass_time(0.1)
    for host in cluster.hosts[:7]:
        host.etcd.partition()
    cluster.pass_time(TTL + 3)
    assert cluster.leader().name in ("h7", "h8", "h9")


def test_second_host_of_the_same_id(cluster: _Cluster, logged_failures: object) -> None:
    """A second live host of the same ID is not registered until the first is gone."""
    double = cluster.add("h2", instance="another")
    cluster.pass_time(10)
    assert double.election._lease is None
    cluster.hosts[1].stop()
    cluster.pass_time(10)
    assert double.election._lease is not None


def test_restarted_host_registers_at_once(cluster: _Cluster) -> None:
    """A host that was killed and started again does not wait for the lease of its earlier process."""
    cluster.hosts[1].etcd.partition()
    again = cluster.add("h2")
    cluster.pass_time(1)
    assert again.election._lease is not None


def test_paused_leader(cluster: _Cluster) -> None:
    """A leader whose process stood still does not think that it leads when it wakes up."""
    first = cluster.leader()
    held = first.presence._lease
    assert held is not None
    assert isinstance(cluster.clock, Clock)
    cluster.clock.rightNow += TTL * 2  # nothing runs meanwhile
    assert not first.election.leads()
    cluster.pass_time(10)
    assert cluster.leader().terms[-1] >= first.terms[0]


def test_solo_host_joins() -> None:
    """A host that was a cluster of its own has heard terms that etcd's revisions don't reach: it can lead."""
    cluster = _Cluster()
    former = cluster.add("h1", heard=1000)
    cluster.pass_time(2)
    assert former.leads
    assert former.terms[0] > 1000
    other = cluster.add("h2")
    cluster.pass_time(2)
    former.stop()
    cluster.pass_time(2)
    assert other.leads
    assert other.terms[0] > former.terms[0]


def test_outranked(cluster: _Cluster) -> None:
    """When a host has heard a higher term, another leader is elected whose term is above that, once."""
    first = cluster.leader()
    first.election.outranked(500)
    cluster.pass_time(2)
    second = cluster.leader()
    assert second is not first
    assert second.terms[-1] > 500
    cluster.pass_time(120)
    assert cluster.leader() is second


def test_outranked_beyond_measure(cluster: _Cluster) -> None:
    """No host makes the cluster use up its terms."""
    first = cluster.leader()
    first.election.outranked(2**62)
    cluster.pass_time(10)
    assert cluster.leader() is first
    assert len(first.terms) == 1


def test_outranked_without_etcd(cluster: _Cluster) -> None:
    """As long as etcd can't be reached the leader goes on: no other could have a higher term."""
    first = cluster.leader()
    first.etcd.partition()
    first.election.outranked(500)
    cluster.pass_time(1)
    assert cluster.leader() is first


def test_etcd_begins_anew(cluster: _Cluster) -> None:
    """Terms go on growing when all of etcd's data is lost, and its revisions begin anew."""
    heard = cluster.leader().terms[-1]
    for host in cluster.hosts:
        host.stop()
        host.heard = heard
    fresh = _Cluster(cluster.clock)
    for host in cluster.hosts:
        fresh.add(host.name, heard=host.heard)
    cluster.pass_time(3)
    assert fresh.leader().terms[0] > heard


@pytest.mark.parametrize("value", [b"", b"-1", b"nonsense", b"9" * 30])
def test_base_that_no_host_wrote(value: bytes, cluster: _Cluster) -> None:
    """With a base of terms that can't be right nobody leads, rather than with a term that is too low."""
    cluster.leader().stop()
    cluster.etcd.client().put(Keys().base, value)
    cluster.pass_time(5)
    assert not [host for host in cluster.hosts if host.leads]
    cluster.etcd.client().delete(Keys().base)
    cluster.pass_time(5)
    assert cluster.leader()


@pytest.mark.parametrize("seed", range(30))
def test_never_two(seed: int) -> None:
    """Whatever breaks, never do two lead, and somebody does in the end."""
    chance = random.Random(seed)
    cluster = _Cluster()
    for number in range(4):
        cluster.add(f"h{number}")
    for _ in range(12):
        cluster.disturb(chance)
        cluster.pass_time(chance.random() * 6, step=0.1)
    for host in cluster.hosts:
        host.etcd.heal()
    cluster.pass_time(30, step=0.1)
    leader = cluster.leader()
    assert {host.follower.leader for host in cluster.hosts} == {
        LeaderRecord(leader.name, f"{leader.name}:1113", leader.terms[-1])
    }


@define
class _SlowToRegister:
    """A client whose transactions are answered late."""

    inner: FakeEtcdClient
    seconds: float = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def txn(self, *args: Any) -> Deferred[Any]:
        late: Deferred[Any] = Deferred()
        clock = self.inner.clock
        self.inner.txn(*args).addBoth(lambda result: clock.callLater(self.seconds, late.callback, result))
        return late


def test_lease_is_lost_while_the_host_registers() -> None:
    """A host that hears of its registration when that has ended already registers again."""
    cluster = _Cluster()
    host = cluster.make("h1")
    host.presence._etcd = slow = _SlowToRegister(host.etcd, 3.0)  # type: ignore[assignment]
    host.start()
    cluster.pass_time(1)
    lease = host.presence._lease
    assert lease is not None
    cluster.etcd.revoke(lease.id)
    slow.seconds = 0.0
    cluster.pass_time(10)
    assert host.presence.certain
    assert host.leads


def test_lease_is_lost_and_the_host_stops() -> None:
    """A host that stops while it gives up its slot leaves nothing that goes on."""
    cluster = _Cluster()
    host = cluster.add("h1")
    cluster.pass_time(2)
    mirror = host.election._mirror
    assert mirror is not None
    deposed: Deferred[None] = Deferred()
    host.deposes = deposed
    host.election.absent()
    over: list[object] = []
    host.election.stopService().addBoth(over.append)
    cluster.pass_time(1)
    assert over == []
    deposed.callback(None)
    cluster.pass_time(1)
    assert over == [None]
    assert mirror._stopped


def test_term_that_no_leader_can_have() -> None:
    """A host that has heard such a one is no candidate, and keeps the others from nothing."""
    cluster = _Cluster()
    mad = cluster.add("h1", heard=MAX_TERM)
    cluster.pass_time(2)
    assert not mad.leads
    other = cluster.add("h2")
    cluster.pass_time(10)
    assert other.leads
    assert other.terms[0] < 1000
