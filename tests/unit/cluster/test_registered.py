"""What a leader learns from etcd about its hosts, and what it writes there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from flynnhost.cluster.leader import Leader
from flynnhost.cluster.membership import GRACE
from flynnhost.cluster.records import HostRecord, Keys
from flynnhost.cluster.registered import RegisteredHosts
from flynnhost.errors import HostNotReady, NotReady
from flynnhost.etcd.values import encode
from flynnhost.interfaces import IPrepared, Part
from flynnhost.keyvalues import Compare
from flynnhost.model import Artifact, Host, HostEvent, Job, JobStatus
from flynnhost.testing.etcd import FakeEtcd, FakeEtcdClient

KEYS = Keys()
CANDIDATE = KEYS.candidate(0)


class NoWay:
    """A host that is never asked."""

    def submit(self, part: Part, term: int) -> Deferred[list[JobStatus]]:
        return fail(AssertionError())

    def prepare(self, part: Part, term: int) -> Deferred[IPrepared]:
        return fail(AssertionError())

    def set_draining(self, draining: bool, term: int) -> Deferred[None]:
        return fail(AssertionError())


class Rig:
    """A leader, as soon as it is started, and an etcd that has hosts of before."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.etcd = FakeEtcd(self.clock)
        self.client: FakeEtcdClient = self.etcd.client("leader")
        self.operator = self.etcd.client("operator")
        self.put(CANDIDATE, b"h1")
        self.revision = self.store()[CANDIDATE].create_revision
        self.leads = True
        self.events: list[HostEvent] = []

    def start(self) -> None:
        self.leader = Leader(
            self.clock, lambda: datetime(2020, 1, 1, tzinfo=UTC), self.revision, "h1", "a:1", expected=None
        )
        self.leader.events.subscribe(lambda _, event: self.events.append(event))
        self.registered = RegisteredHosts(
            self.clock, self.client, KEYS, self.leader, self.condition, lambda: 0.5
        )
        self.leader.startService()
        self.registered.startService()
        self.pass_time(1)

    def condition(self) -> Compare | None:
        return Compare(CANDIDATE, "create", "==", self.revision) if self.leads else None

    def put(self, key: bytes, value: bytes) -> None:
        self.operator.put(key, value)
        self.pass_time(0.1)

    def delete(self, key: bytes) -> None:
        self.operator.delete(key)
        self.pass_time(0.1)

    def register(self, host_id: str, *, gone: bool = False) -> None:
        record = encode(HostRecord(host_id, f"{host_id}:1113", f"instance of {host_id}"))
        self.put(KEYS.member(host_id), record)
        if not gone:
            self.put(KEYS.host(host_id), record)

    def report(self, host_id: str) -> None:
        self.leader.add_host(Host(host_id), NoWay())

    def store(self) -> Any:
        found: list[Any] = []
        self.operator.get(KEYS.candidates).addCallback(found.append)
        self.pass_time(0.1)
        return {kv.key: kv for kv in found[0].values}

    def members(self) -> list[str]:
        """Whose records are there."""
        found: list[Any] = []
        self.operator.get(KEYS.members).addCallback(found.append)
        self.pass_time(0.1)
        return [kv.key.rpartition(b"/")[2].decode() for kv in found[0].values]

    def pass_time(self, seconds: float) -> None:
        for _ in range(max(1, round(seconds / 0.05))):
            self.clock.advance(0.05)

    def told(self) -> list[tuple[str, str]]:
        return [(event.kind.value, event.host_id) for event in self.events]

    def submit(self, host_id: str) -> Any:
        results: list[Any] = []
        job = Job(id="j", artifact=Artifact(url="busybox"))
        self.leader.submit({host_id: [job]}).addBoth(
            lambda result: results.append(result.value if isinstance(result, Failure) else result)
        )
        return results[0]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_waits_for_all_that_are_there(rig: Rig) -> None:
    """The leader is recovering until each host that is registered has reported."""
    rig.register("h2")
    rig.register("h3")
    rig.start()
    rig.report("h2")
    assert isinstance(rig.submit("h2"), NotReady)
    assert not rig.leader.complete()
    rig.report("h3")
    assert rig.leader.complete()


def test_does_not_wait_for_who_goes(rig: Rig) -> None:
    """A host whose registration ends is not waited for any more."""
    rig.register("h2")
    rig.register("h3")
    rig.start()
    rig.report("h2")
    rig.delete(KEYS.host("h3"))
    assert rig.leader.complete()


def test_host_that_goes_before_it_has_reported(rig: Rig) -> None:
    """It is shown as down, like one that was gone before: it may have gone together with the last leader."""
    rig.register("h2")
    rig.register("h3")
    rig.start()
    rig.report("h2")
    rig.delete(KEYS.host("h3"))
    assert [(host.id, host.down) for host in rig.leader.hosts()] == [("h2", False), ("h3", True)]
    assert isinstance(rig.submit("h3"), HostNotReady)
    assert rig.leader._membership.instance("h3") == "instance of h3"
    rig.pass_time(GRACE + 5)
    assert rig.told()[-1] == ("remove", "h3")
    assert rig.members() == ["h2"]


def test_host_that_goes_later(rig: Rig) -> None:
    """The end of its registration alone changes nothing for a host that has reported, or was given up."""
    rig.register("h2")
    rig.register("h3")
    rig.start()
    rig.report("h2")
    rig.pass_time(GRACE + 5)
    rig.delete(KEYS.host("h2"))
    rig.delete(KEYS.host("h3"))
    assert [(host.id, host.down) for host in rig.leader.hosts()] == [("h2", False)]


def test_etcd_not_there_at_the_start(rig: Rig) -> None:
    """Nothing is complete before etcd has said which hosts there are."""
    rig.register("h2")
    rig.client.partition()
    rig.start()
    rig.report("h2")
    assert not rig.leader.complete()
    rig.client.heal()
    rig.pass_time(10)
    assert rig.leader.complete()


def test_host_of_before_is_down(rig: Rig) -> None:
    """A host that an earlier leader had is shown as down, is not waited for, and can be given nothing."""
    rig.register("h2")
    rig.register("h9", gone=True)
    rig.start()
    rig.report("h2")
    assert rig.leader.complete()
    assert [(host.id, host.down) for host in rig.leader.hosts()] == [("h9", True), ("h2", False)]
    assert rig.leader.host("h9").addr == "h9:1113"
    assert rig.told() == [("add", "h9"), ("down", "h9"), ("add", "h2")]
    assert isinstance(rig.submit("h9"), HostNotReady)


def test_host_of_before_comes_back(rig: Rig) -> None:
    """It is up again then, and stays."""
    rig.register("h9", gone=True)
    rig.start()
    rig.register("h9")
    rig.report("h9")
    rig.pass_time(GRACE + 5)
    assert [(host.id, host.down) for host in rig.leader.hosts()] == [("h9", False)]
    assert rig.told()[-1] == ("up", "h9")
    assert rig.members() == ["h9"]


def test_host_of_before_is_given_up(rig: Rig) -> None:
    """After the grace it is removed, and its record with it; the others' stay."""
    rig.register("h2")
    rig.register("h9", gone=True)
    rig.start()
    rig.report("h2")
    rig.pass_time(GRACE + 5)
    assert rig.told()[-1] == ("remove", "h9")
    assert rig.members() == ["h2"]


def test_host_of_another_instance(rig: Rig) -> None:
    """The place of a host that is waited for is not another's of the same ID."""
    rig.register("h9", gone=True)
    rig.start()
    assert rig.leader._membership.instance("h9") == "instance of h9"


def test_host_that_has_not_reported(rig: Rig) -> None:
    """Nor is that of one that is there."""
    rig.register("h2")
    rig.start()
    assert rig.leader._membership.instance("h2") == "instance of h2"
    rig.delete(KEYS.host("h2"))
    rig.pass_time(GRACE + 5)
    assert rig.leader._membership.instance("h2") is None


def test_record_of_a_host_that_is_back(rig: Rig) -> None:
    """A host that registers again, while it is being given up, keeps its record."""
    rig.register("h9", gone=True)
    rig.start()
    rig.client.partition()
    rig.pass_time(GRACE + 1)
    assert rig.told()[-1] == ("remove", "h9")
    rig.register("h9")
    rig.client.heal()
    rig.pass_time(20)
    assert rig.members() == ["h9"]


def test_who_leads_no_longer_writes_nothing(rig: Rig) -> None:
    """A leader whose candidacy is gone from etcd removes no record, even before it knows."""
    rig.register("h9", gone=True)
    rig.start()
    rig.delete(CANDIDATE)
    rig.pass_time(GRACE + 5)
    assert rig.told()[-1] == ("remove", "h9")
    assert rig.members() == ["h9"]


def test_who_knows_that_it_leads_no_longer(rig: Rig) -> None:
    """It does not even ask etcd to remove a record."""
    rig.register("h9", gone=True)
    rig.start()
    rig.leads = False
    asked = rig.client.calls
    rig.pass_time(GRACE + 5)
    assert rig.told()[-1] == ("remove", "h9")
    assert rig.client.calls == asked


def test_what_others_wrote_there(rig: Rig) -> None:
    """A record that can't be read is no host."""
    rig.put(KEYS.host("h2"), b"nonsense")
    rig.put(KEYS.member("h3"), b"nonsense")
    rig.start()
    rig.report("h1")
    assert rig.leader.complete()
    assert [host.id for host in rig.leader.hosts()] == ["h1"]


def test_stop(rig: Rig) -> None:
    """Nothing goes on after the stop."""
    rig.register("h9", gone=True)
    rig.start()
    rig.registered.stopService()
    rig.leader.stopService()
    rig.pass_time(1)
    assert not [call for call in rig.clock.getDelayedCalls() if "expire" not in str(call)]
