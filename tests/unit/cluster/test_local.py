"""The leader's own host."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from flynnhost.agent.on_the_way import OnTheWay
from flynnhost.agent.taking import Taking
from flynnhost.canonical import canonical
from flynnhost.cluster.leader import Leader
from flynnhost.cluster.local import LocalHost
from flynnhost.errors import JobConflict, NotReady, StaleTerm, TookTooLong
from flynnhost.model import Artifact, Host, Job, JobStatus, Placement
from flynnhost.testing.agent import FakeAgent
from flynnhost.testing.world import World


def job(job_id: str, url: str = "busybox:latest") -> Job:
    return Job(id=job_id, artifact=Artifact(url=url))


@define(eq=False)
class Rig:
    """A leader, its own host, and the agent of that."""

    clock: Clock = field(factory=Clock)
    agent: FakeAgent = field(init=False)
    leader: Leader = field(init=False)
    local: LocalHost = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.agent = FakeAgent(self.clock, "h1", {"zone": "a"})
        self.leader = Leader(self.clock, lambda: datetime(2020, 1, 1, tzinfo=UTC), 7, "h1", "10.0.0.1:1113")
        self.local = LocalHost(self.agent, self.leader)
        self.leader.startService()

    def jobs(self) -> list[str]:
        (host,) = self.leader.hosts()
        return [job.id for job in host.jobs]


def result(deferred: Deferred[Any]) -> Any:
    found: list[Any] = []
    deferred.addBoth(lambda result: found.append(result.value if isinstance(result, Failure) else result))
    return found[0] if found else None


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def world() -> World:
    """A real agent."""
    world = World()
    world.start()
    return world


@pytest.fixture
def joined(rig: Rig) -> Rig:
    """The same, when the host has joined."""
    rig.local.startService()
    return rig


def test_joins(rig: Rig) -> None:
    """The host reports what it is and the jobs that it has, those that have ended not."""
    rig.agent.accept([job("a"), job("b")], 0)
    rig.agent.end("a", 0)
    rig.local.startService()
    assert list(rig.leader.hosts()) == [Host("h1", {"zone": "a"}, (job("b"),), addr="10.0.0.1:1113")]


def test_not_ready(rig: Rig) -> None:
    """A host that has not read its journal does not join: a short list is not an empty host."""
    rig.agent.ready = False
    with pytest.raises(NotReady):
        rig.local.startService()
    assert list(rig.leader.hosts()) == []
    rig.local.stopService()


def test_submit(joined: Rig) -> None:
    """Jobs that are committed to it are handed to its agent, with the term."""
    answer = joined.leader.submit({"h1": [job("a"), job("b")]})
    assert result(answer) == [
        Placement("a", "h1", JobStatus.STARTING),
        Placement("b", "h1", JobStatus.STARTING),
    ]
    assert joined.agent.job("a").term == 7
    assert joined.jobs() == ["a", "b"]


def test_refused(joined: Rig) -> None:
    """What the agent refuses is refused."""
    joined.agent.accept([job("a")], 0)
    joined.agent.end("a", 0)
    error = result(joined.leader.submit({"h1": [job("a", "other")]}))
    assert isinstance(error, JobConflict)


def test_ends(joined: Rig) -> None:
    """A job that ends, in whatever way, leaves the leader's list; one that starts stays."""
    joined.leader.submit({"h1": [job("a"), job("b"), job("c"), job("d")]})
    joined.agent.run("a")
    joined.agent.run("b")
    joined.agent.end("b", 0)
    joined.agent.fail("c", "no image")
    assert joined.jobs() == ["a", "d"]


def test_ends_before_it_is_acknowledged(joined: Rig) -> None:
    """A job that has ended when its host acknowledges it is not kept."""
    hold: Deferred[None] = Deferred()
    joined.agent.hold = hold
    answer = joined.leader.submit({"h1": [job("a")]})
    joined.agent.hold = None
    joined.agent.accept([job("a")], 7)
    joined.agent.end("a", 1)
    hold.callback(None)
    assert result(answer) == [Placement("a", "h1", JobStatus.CRASHED)]
    assert joined.jobs() == []


def test_put_on_the_host_directly(joined: Rig) -> None:
    """A job that was not sent by the leader is in its list as any other, and its ID is taken."""
    joined.agent.accept([job("a")], 0)
    assert joined.jobs() == ["a"]
    assert isinstance(result(joined.leader.submit({"h1": [job("a", "other")]})), JobConflict)
    joined.agent.end("a", 0)
    assert joined.jobs() == []


def test_leaves(joined: Rig) -> None:
    """When the leadership is over nothing more is reported; the host can join the next leader."""
    joined.local.stopService()
    joined.local.stopService()
    joined.agent.accept([job("a")], 0)
    assert joined.jobs() == []
    joined.local.startService()
    assert joined.jobs() == ["a"]
    joined.agent.end("a", 0)
    assert joined.jobs() == []


# --- what earlier leaders have sent -------------------------------------------


def other_host(rig: Rig) -> LocalHost:
    """A second host of the same leader."""
    other = LocalHost(FakeAgent(rig.clock, "h2"), rig.leader)
    other.startService()
    return other


def test_ended_before(rig: Rig) -> None:
    """The ID of a job that had ended here before gets onto no other host."""
    rig.agent.accept([job("a")], 0)
    rig.agent.end("a", 0)
    rig.local.startService()
    other_host(rig)
    assert isinstance(result(rig.leader.submit({"h2": [job("a")]})), JobConflict)


@pytest.mark.parametrize("taken", [True, False])
def test_on_the_way(rig: Rig, taken: bool) -> None:
    """What an earlier leader has sent, and is not on disk yet, is this host's until it was refused."""
    on_the_way = OnTheWay()
    rig.agent.accept([job("a")], 6)
    sent = {job_id: canonical(job(job_id)) for job_id in ("a", "b")}
    on_the_way.begin(sent)
    rig.local = LocalHost(rig.agent, rig.leader, on_the_way=on_the_way)
    rig.local.startService()
    other_host(rig)
    assert sorted(each.id for each in rig.leader.host("h1").jobs) == ["a", "b"]
    assert isinstance(result(rig.leader.submit({"h2": [job("b")]})), JobConflict)
    if taken:
        rig.agent.accept([job("b")], 6)
    on_the_way.end(sent)
    assert sorted(each.id for each in rig.leader.host("h1").jobs) == ["a", "b"][: 1 + taken]
    assert isinstance(result(rig.leader.submit({"h2": [job("b")]})), JobConflict) == taken
    rig.local.stopService()
    assert on_the_way.settled is None


@pytest.mark.parametrize("trouble", ["", "full"])
def test_writes_for_long(world: World, trouble: str) -> None:
    """A job that is still being written when another leads is this host's until it is not taken."""
    taking = Taking(world.clock, world.agent, lambda: world.agent.highest_term)

    def lead(term: int) -> tuple[Leader, LocalHost]:
        now = datetime(2020, 1, 1, tzinfo=UTC)
        leader = Leader(world.clock, lambda: now, term, "h1", "10.0.0.1:1113")
        leader.startService()
        local = LocalHost(world.agent, leader, on_the_way=taking.on_the_way, take=taking.take)
        local.startService()
        world.pass_time(1)
        return leader, local

    leader, local = lead(7)
    world.journal.delay = 40
    answer = leader.submit({"h1": [job("a")]})
    world.pass_time(31)
    assert isinstance(result(answer), TookTooLong)
    local.stopService()
    leader.stopService()
    leader, _ = lead(8)
    other = LocalHost(FakeAgent(world.clock, "h2"), leader)
    other.startService()
    assert isinstance(result(leader.submit({"h2": [job("a")]})), JobConflict)
    world.journal.trouble = trouble
    world.pass_time(20)
    assert [each.id for each in leader.host("h1").jobs] == ([] if trouble else ["a"])
    if trouble:
        assert isinstance(result(leader.submit({"h2": [job("a")]})), list)


def test_written_late(world: World) -> None:
    """What is on disk long after the answer is committed, and what is not after all is let go."""
    taking = Taking(world.clock, world.agent, lambda: world.agent.highest_term)
    leader = Leader(world.clock, lambda: datetime(2020, 1, 1, tzinfo=UTC), 7, "h1", "10.0.0.1:1113")
    leader.startService()
    LocalHost(world.agent, leader, on_the_way=taking.on_the_way, take=taking.take).startService()
    world.journal.delay = 40
    for job_id in ("a", "b"):
        answer = leader.submit({"h1": [job(job_id)]})
        world.pass_time(31)
        assert isinstance(result(answer), TookTooLong)
        world.pass_time(20)
        world.journal.trouble = "full"
    assert [each.id for each in leader.host("h1").jobs] == ["a"]


def test_earlier_leaders_are_refused(world: World) -> None:
    """From the moment at which this host leads it takes nothing from earlier leaders."""
    leader = Leader(world.clock, lambda: datetime(2020, 1, 1, tzinfo=UTC), 7, "h1", "10.0.0.1:1113")
    leader.startService()
    LocalHost(world.agent, leader).startService()
    late = world.agent.accept([job("a")], 6)
    assert isinstance(result(late), StaleTerm)


def test_term_can_not_be_remembered(world: World) -> None:
    """A disk that is full keeps nobody from leading: all that it means to lead is told by etcd."""
    world.journal.trouble = "full"
    leader = Leader(world.clock, lambda: datetime(2020, 1, 1, tzinfo=UTC), 7, "h1", "10.0.0.1:1113")
    leader.startService()
    LocalHost(world.agent, leader).startService()
    world.pass_time(1)
    assert [host.id for host in leader.hosts()] == ["h1"]


# --- draining -----------------------------------------------------------------


def test_draining(rig: Rig) -> None:
    """Whether it drains, and what its machine has, the leader knows of its own host too."""
    rig.agent.draining, rig.agent.resources = True, {"cpu": 1000}
    rig.local.startService()
    host = rig.leader.host("h1")
    assert (host.draining, host.resources) == (True, {"cpu": 1000})
    assert result(rig.leader.set_draining("h1", False)) is None
    assert not rig.agent.draining
    assert not rig.leader.host("h1").draining
    rig.local.stopService()
    rig.agent.set_draining(True, 0)
    assert not rig.leader.host("h1").draining


def test_attributes(rig: Rig) -> None:
    """What is said of it, and where it is reached, the leader knows of its own host too."""
    rig.agent.attributes = {"zone": "a"}
    rig.local.startService()
    host = rig.leader.host("h1")
    assert (host.attributes, host.addr) == ({"zone": "a"}, "10.0.0.1:1113")
    rig.agent.set_attribute("zone", "b")
    assert rig.leader.host("h1").attributes == {"zone": "b"}
    rig.local.stopService()
    rig.agent.set_attribute("zone", "c")
    assert rig.leader.host("h1").attributes == {"zone": "b"}
