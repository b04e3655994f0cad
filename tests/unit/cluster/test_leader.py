"""The leader: batches that are committed when their hosts have them, and what else may come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import define
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from flynnhost.background import STEP
from flynnhost.cluster import batches
from flynnhost.cluster.batches import ACKNOWLEDGE_WITHIN, MAX_UNACKNOWLEDGED
from flynnhost.cluster.host_part import PREPARE_WITHIN
from flynnhost.cluster.leader import Leader
from flynnhost.cluster.membership import GRACE
from flynnhost.encoded import ListedJobs
from flynnhost.errors import (
    DuplicateHost,
    EngineUnavailable,
    HostNotReady,
    InvalidField,
    JobConflict,
    JournalFailed,
    NoLeader,
    NotReady,
    ResyncNeeded,
    StaleTerm,
    TookTooLong,
    UnknownHost,
)
from flynnhost.interfaces import ICluster, IPrepared, Part
from flynnhost.model import Artifact, Host, HostEvent, HostEventKind, Job, JobStatus, Placement
from tests.conftest import LoggedFailures

STARTING, RUNNING, DONE = JobStatus.STARTING, JobStatus.RUNNING, JobStatus.DONE


def job(job_id: str, url: str = "busybox:latest") -> Job:
    return Job(id=job_id, artifact=Artifact(url=url))


@define(eq=False)
class Prepared:
    """A part that a host has looked at."""

    link: Link
    part: Part
    term: int
    dropped: bool = False

    def submit(self) -> Deferred[list[JobStatus]]:
        return self.link.submit(self.part, self.term)

    def drop(self) -> None:
        self.dropped = True


class Link:
    """A host that answers when a test says so.

    :ivar asked: the IDs of the jobs of each request, with its term.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], int]] = []
        self.answers: list[Deferred[list[JobStatus]]] = []
        self.looked: list[Prepared] = []
        self.objection: Deferred[IPrepared] | None = None
        self.told: list[tuple[bool, int]] = []
        self.drains: Deferred[None] = Deferred()

    def submit(self, part: Part, term: int) -> Deferred[list[JobStatus]]:
        self.asked.append(([job.id for job in part.jobs], term))
        self.answers.append(Deferred())
        return self.answers[-1]

    def prepare(self, part: Part, term: int) -> Deferred[IPrepared]:
        prepared = Prepared(self, part, term)
        self.looked.append(prepared)
        return self.objection if isinstance(self.objection, Deferred) else succeed(prepared)

    def set_draining(self, draining: bool, term: int) -> Deferred[None]:
        self.told.append((draining, term))
        return self.drains

    def accept(self, *statuses: JobStatus) -> None:
        """Take the oldest request."""
        jobs = self.asked[len(self.asked) - len(self.answers)][0]
        self.answers.pop(0).callback(list(statuses) or [STARTING] * len(jobs))

    def refuse(self, error: Exception) -> None:
        """Refuse the oldest request."""
        self.answers.pop(0).errback(error)


class Rig:
    """A leader of term 7 with two hosts, h1 and h2."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.leader = Leader(
            self.clock,
            lambda: datetime(2020, 1, 1, tzinfo=UTC),
            7,
            "h1",
            "10.0.0.1:1113",
            lambda: self.confirmed,
        )
        self.confirmed = True
        self.events: list[HostEvent] = []
        self.leader.events.subscribe(lambda _, event: self.events.append(event))
        self.links = {"h1": Link(), "h2": Link()}
        self.leader.startService()
        for host_id, link in self.links.items():
            self.leader.add_host(Host(host_id), link)

    def submit(self, **batch: Sequence[Job]) -> list[Any]:
        """Submit a batch; what comes of it, when it does."""
        return self.submitted(self.leader, **batch)

    def submitted(self, leader: Leader, **batch: Sequence[Job]) -> list[Any]:
        """The same, to another leader."""
        results: list[Any] = []
        leader.submit(batch).addBoth(
            lambda result: results.append(result.value if isinstance(result, Failure) else result)
        )
        return results

    def new_leader(self, expected: Sequence[str] | None) -> Leader:
        """The leader of the next term, which has to find out what there is."""
        leader = Leader(
            self.clock, lambda: datetime(2020, 1, 1, tzinfo=UTC), 8, "h1", "10.0.0.1:1113", expected=expected
        )
        leader.startService()
        return leader

    def jobs(self) -> dict[str, list[str]]:
        return {host.id: [job.id for job in host.jobs] for host in self.leader.hosts()}

    def nothing_is_left(self) -> None:
        """No batch is on its way any more."""
        assert self.leader._state._held == {}
        assert dict(self.leader._batches._unacknowledged) == {}
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def h1(rig: Rig) -> Link:
    return rig.links["h1"]


@pytest.fixture
def h2(rig: Rig) -> Link:
    return rig.links["h2"]


def test_interface(rig: Rig) -> None:
    """It has all that the interface names."""
    verifyObject(ICluster, rig.leader)


def test_who_leads(rig: Rig) -> None:
    """The leader says who it is, where, in which term and since when."""
    assert rig.leader.leader() == {
        "id": "h1",
        "addr": "10.0.0.1:1113",
        "term": 7,
        "since": datetime(2020, 1, 1, tzinfo=UTC),
    }
    assert rig.leader.complete()


# --- hosts --------------------------------------------------------------------


def test_host_events(rig: Rig) -> None:
    """A host that comes or goes is told; one that reports anew or is gone already is not."""
    rig.leader.add_host(Host("h1", {}, (job("a"),)), Link())
    rig.leader.remove_host("h1")
    rig.leader.remove_host("h1")
    assert rig.events == [
        HostEvent(HostEventKind.ADD, "h1"),
        HostEvent(HostEventKind.ADD, "h2"),
        HostEvent(HostEventKind.REMOVE, "h1"),
    ]
    assert rig.jobs() == {"h2": []}


def test_without_hosts(rig: Rig) -> None:
    """Until a host has reported, the list is not complete."""
    rig.leader.remove_host("h1")
    rig.leader.remove_host("h2")
    assert not rig.leader.complete()


def test_events_end(rig: Rig) -> None:
    """Who listens to a leader's events is told when it leads no longer."""
    ended: list[bool] = []
    rig.leader.events.subscribe(lambda *_: None, ended=lambda: ended.append(True))
    rig.leader.stopService()
    assert ended == [True]


# --- batches ------------------------------------------------------------------


def test_submit(rig: Rig, h1: Link, h2: Link) -> None:
    """A batch is committed, and answered, when all its hosts have their jobs; in its order."""
    answer = rig.submit(h2=[job("c"), job("a")], h1=[job("b")])
    assert (h1.asked, h2.asked) == ([(["b"], 7)], [(["c", "a"], 7)])
    h1.accept(RUNNING)
    assert answer == []
    assert rig.jobs() == {"h1": ["b"], "h2": []}
    h2.accept()
    assert rig.jobs() == {"h1": ["b"], "h2": ["c", "a"]}
    assert answer == [
        [Placement("c", "h2", STARTING), Placement("a", "h2", STARTING), Placement("b", "h1", RUNNING)]
    ]
    rig.nothing_is_left()


def test_idempotent(rig: Rig, h1: Link) -> None:
    """The same batch again is handed to its host again, which knows the jobs; they count once."""
    for _ in range(2):
        answer = rig.submit(h1=[job("a"), job("b")])
        h1.accept()
        assert [placement.job_id for placement in answer[0]] == ["a", "b"]
    assert rig.jobs()["h1"] == ["a", "b"]
    assert len(h1.asked) == 2


def test_twice_in_a_batch(rig: Rig, h1: Link) -> None:
    """A job that is in a batch twice is answered twice, and is there once."""
    answer = rig.submit(h1=[job("a"), job("a"), job("b")])
    h1.accept()
    assert [placement.job_id for placement in answer[0]] == ["a", "a", "b"]
    assert rig.jobs()["h1"] == ["a", "b"]
    rig.nothing_is_left()


def test_two_batches_at_once(rig: Rig, h1: Link) -> None:
    """Two batches with the same job, on their way at once, both come to their end."""
    first, second = rig.submit(h1=[job("a")]), rig.submit(h1=[job("a"), job("b")])
    h1.refuse(JournalFailed("full"))
    h1.accept()
    assert isinstance(first[0], JournalFailed)
    assert len(second[0]) == 2
    assert rig.jobs()["h1"] == ["a", "b"]
    rig.nothing_is_left()


def test_ended_already(rig: Rig, h1: Link) -> None:
    """A job that had ended before is said to have, and is not there again."""
    answer = rig.submit(h1=[job("a"), job("b")])
    h1.accept(DONE, STARTING)
    assert answer[0][0] == Placement("a", "h1", DONE)
    assert rig.jobs()["h1"] == ["b"]


def test_ended_before_the_answer(rig: Rig, h1: Link) -> None:
    """A job whose end is told before its host has acknowledged it does not stay for ever."""
    rig.submit(h1=[job("a")])
    rig.leader.job_reported("h1", job("a"))
    rig.leader.job_ended("h1", "a")
    h1.accept()
    assert rig.jobs()["h1"] == []
    rig.nothing_is_left()


def test_empty(rig: Rig, h1: Link) -> None:
    """An empty batch, or one with empty hosts, is done at once and asks nobody."""
    assert rig.submit() == [[]]
    assert rig.submit(h1=[]) == [[]]
    assert h1.asked == []


# --- an ID gets onto one host only ---------------------------------------------


def put_elsewhere(rig: Rig, job_id: str, **batch: Sequence[Job]) -> None:
    """To repeat a job on another host is refused, and asks nobody."""
    asked = [list(link.asked) for link in rig.links.values()]
    (error,) = rig.submit(**batch)
    assert isinstance(error, JobConflict)
    assert error.job_id == job_id
    assert [link.asked for link in rig.links.values()] == asked
    rig.nothing_is_left()


def test_repeated_after_the_end(rig: Rig, h1: Link) -> None:
    """A job that has ended is refused to another host; its own says that it has ended."""
    rig.submit(h1=[job("a")])
    h1.accept()
    rig.leader.job_ended("h1", "a")
    put_elsewhere(rig, "a", h2=[job("b"), job("a")])
    again = rig.submit(h1=[job("a")])
    h1.accept(DONE)
    assert again == [[Placement("a", "h1", DONE)]]
    put_elsewhere(rig, "a", h2=[job("a")])


def test_repeated_after_an_early_end(rig: Rig, h1: Link) -> None:
    """The same for a job that ended before its acknowledgement, or with it."""
    rig.submit(h1=[job("a"), job("b")])
    rig.leader.job_ended("h1", "a")
    h1.accept(STARTING, DONE)
    assert rig.jobs()["h1"] == []
    put_elsewhere(rig, "a", h2=[job("a")])
    put_elsewhere(rig, "b", h2=[job("b")])


def test_repeated_while_the_host_is_away(rig: Rig, h1: Link) -> None:
    """The same for a job on a host that is down, when that is removed, and when it is back without it."""
    rig.submit(h1=[job("a"), job("b")])
    h1.accept()
    rig.leader._membership.lost("h1", h1)
    assert isinstance(rig.submit(h2=[job("a")])[0], JobConflict)
    rig.clock.advance(GRACE)
    assert rig.jobs() == {"h2": []}
    put_elsewhere(rig, "a", h2=[job("a")])
    rig.leader.add_host(Host("h1", {}, (job("b"),)), h1)
    put_elsewhere(rig, "a", h2=[job("a")])
    put_elsewhere(rig, "b", h2=[job("b")])


def test_repeated_of_unknown_outcome(rig: Rig, h1: Link) -> None:
    """The same for a job that a host may have or not, when that is down and when it is removed."""
    rig.submit(h1=[job("a")])
    rig.leader._membership.lost("h1", h1)
    h1.refuse(TookTooLong("lost"))
    assert isinstance(rig.submit(h2=[job("a")])[0], JobConflict)
    rig.clock.advance(GRACE)
    put_elsewhere(rig, "a", h2=[job("a")])


def test_ended_under_an_earlier_leader(rig: Rig) -> None:
    """The same for a job of which the host says that it has ended."""
    new = rig.new_leader(["h1", "h2"])
    link = Link()
    new.add_host(Host("h1"), Link(), ["a"])
    new.add_host(Host("h2"), link)
    assert isinstance(rig.submitted(new, h2=[job("a")])[0], JobConflict)
    rig.submitted(new, h2=[job("b")])
    assert link.asked == [(["b"], 8)]


# --- batches that can't be ----------------------------------------------------


def test_unknown_host(rig: Rig, h1: Link) -> None:
    """With an unknown host nobody is asked for anything."""
    (error,) = rig.submit(h1=[job("a")], h3=[job("b")])
    assert isinstance(error, UnknownHost)
    assert error.host_id == "h3"
    assert h1.asked == []
    rig.nothing_is_left()


def test_conflict(rig: Rig, h1: Link, h2: Link) -> None:
    """With an ID that is taken nobody is asked for anything, also while its job is on its way."""
    rig.submit(h1=[job("a")])
    for batch in ({"h2": [job("b"), job("a")]}, {"h1": [job("b"), job("a", "other")]}):
        (error,) = rig.submit(**batch)
        assert isinstance(error, JobConflict)
        assert error.job_id == "a"
    assert (len(h1.asked), h2.asked) == (1, [])
    h1.accept()
    assert isinstance(rig.submit(h2=[job("a")])[0], JobConflict)
    rig.nothing_is_left()


def test_field(rig: Rig, h1: Link) -> None:
    """What a host can't honour is named by its place in the batch as it was sent."""
    answer = rig.submit(h1=[job("a"), job("a"), job("b")])
    assert h1.asked[0][0] == ["a", "a", "b"]
    h1.refuse(InvalidField("[2].config.uid", "must not be negative"))
    assert str(answer[0]) == "h1[2].config.uid must not be negative"
    assert rig.jobs()["h1"] == []
    rig.nothing_is_left()


@pytest.mark.parametrize(
    "error", [JobConflict("a", "has ended with other content"), JournalFailed("full"), NotReady("not yet")]
)
def test_host_refuses(rig: Rig, h1: Link, error: Exception) -> None:
    """What a host refuses is not there, and can go elsewhere."""
    answer = rig.submit(h1=[job("a")])
    h1.refuse(error)
    assert answer == [error]
    assert rig.jobs()["h1"] == []
    rig.submit(h2=[job("a", "other")])
    rig.links["h2"].accept()
    assert rig.jobs()["h2"] == ["a"]
    rig.nothing_is_left()


def test_later_leader(rig: Rig, h1: Link) -> None:
    """A host that has heard a later leader makes this one ask its client to try again."""
    answer = rig.submit(h1=[job("a")])
    h1.refuse(StaleTerm(7, 8))
    assert isinstance(answer[0], NotReady)
    assert "term 8" in str(answer[0])


def test_one_of_two_hosts_refuses(rig: Rig, h1: Link, h2: Link) -> None:
    """When a host refuses what could not be foreseen it is told what became of each job."""
    answer = rig.submit(h1=[job("a")], h2=[job("b")])
    h2.refuse(NotReady("not yet"))
    assert answer == []
    h1.accept()
    assert isinstance(answer[0], TookTooLong)
    assert "not yet" in str(answer[0])
    assert list(answer[0].outcomes) == [("a", "accepted"), ("b", "refused")]
    assert rig.jobs() == {"h1": ["a"], "h2": []}
    again = rig.submit(h1=[job("a")], h2=[job("b")])
    h1.accept(RUNNING)
    h2.accept()
    assert len(again[0]) == 2
    rig.nothing_is_left()


# --- looking before anything is done ------------------------------------------


def test_one_of_two_hosts_objects(rig: Rig, h1: Link, h2: Link) -> None:
    """When one of several hosts says that it could not take its part, nothing is done anywhere."""
    h2.objection = fail(InvalidField("[1].resurrect", "can't be honoured"))
    answer = rig.submit(h1=[job("a")], h2=[job("b"), job("c")])
    assert str(answer[0]) == "h2[1].resurrect can't be honoured"
    assert (h1.asked, h2.asked) == ([], [])
    assert [prepared.dropped for prepared in h1.looked] == [True]
    rig.nothing_is_left()


def test_one_host_is_not_asked_beforehand(rig: Rig, h1: Link) -> None:
    """What concerns one host only takes one question."""
    rig.submit(h1=[job("a")], h2=[])
    assert (len(h1.looked), len(h1.asked)) == (0, 1)
    h1.accept()


def test_ids_are_taken_while_hosts_look(rig: Rig, h2: Link) -> None:
    """From the first look on no other batch gets the IDs."""
    h2.objection = Deferred()
    answer = rig.submit(h1=[job("a")], h2=[job("b")])
    assert isinstance(rig.submit(h1=[job("b")])[0], JobConflict)
    h2.objection.callback(Prepared(h2, Part(ListedJobs.of([job("b")])), 7))
    rig.links["h1"].accept()
    h2.accept()
    assert len(answer[0]) == 2
    rig.nothing_is_left()


def test_host_does_not_look(rig: Rig, h1: Link, h2: Link) -> None:
    """When a host does not say whether it could take its part, nothing is done, and late it is told so."""
    h2.objection = Deferred()
    answer = rig.submit(h1=[job("a")], h2=[job("b")])
    rig.clock.advance(PREPARE_WITHIN)
    assert isinstance(answer[0], HostNotReady)
    assert (answer[0].host_id, answer[0].job_id) == ("h2", "b")
    late = Prepared(h2, Part(ListedJobs.of([job("b")])), 7)
    h2.objection.callback(late)
    assert late.dropped
    assert (h1.asked, h2.asked) == ([], [])
    rig.nothing_is_left()


def test_host_is_lost_while_it_looks(rig: Rig, h1: Link, h2: Link, logged_failures: LoggedFailures) -> None:
    """The same when it is lost."""
    for error in (TookTooLong("lost"), ZeroDivisionError()):
        h2.objection = fail(error)
        assert isinstance(rig.submit(h1=[job("a")], h2=[job("b")])[0], HostNotReady)
    assert len(logged_failures.flush(ZeroDivisionError)) == 1
    assert h1.asked == []
    rig.nothing_is_left()


def test_deposed_while_hosts_look(rig: Rig, h1: Link, h2: Link) -> None:
    """A leader that is not certain any more does not go on from the look to the act."""
    h2.objection = Deferred()
    answer = rig.submit(h1=[job("a")], h2=[job("b")])
    rig.confirmed = False
    h2.objection.callback(Prepared(h2, Part(ListedJobs.of([job("b")])), 7))
    assert isinstance(answer[0], NoLeader)
    assert (h1.asked, h2.asked) == ([], [])
    rig.nothing_is_left()


def test_large_batches_let_others_have_a_turn(rig: Rig, h1: Link) -> None:
    """A batch of many jobs is encoded in steps."""
    rig.submit(h1=[job(f"j{number}") for number in range(1200)])
    assert h1.asked == []
    rig.clock.pump([0, 0, 0])
    assert len(h1.asked[0][0]) == 1200
    h1.accept()


# --- hosts that are lost ------------------------------------------------------


def test_down(rig: Rig, h1: Link) -> None:
    """A host that is lost stays with its jobs, and takes none, until it is back."""
    rig.leader.add_host(Host("h1", {}, (job("a"),)), h1)
    rig.leader._membership.lost("h1", h1)
    assert rig.leader.host("h1") == Host("h1", {}, (job("a"),), down=True)
    (error,) = rig.submit(h2=[job("b")], h1=[job("c")])
    assert isinstance(error, HostNotReady)
    assert str(error) == "host h1 can't take job c: it is not connected"
    assert (h1.asked, rig.links["h2"].asked) == ([], [])
    assert isinstance(rig.submit(h2=[job("a")])[0], JobConflict)
    rig.leader.add_host(Host("h1"), h1)
    assert [event.kind.value for event in rig.events[2:]] == ["down", "up"]
    assert not rig.leader.host("h1").down
    rig.nothing_is_left()


def test_away_for_too_long(rig: Rig, h1: Link, h2: Link) -> None:
    """A host that does not come back is removed when its own grace is over."""
    rig.leader._membership.lost("h1", h1)
    rig.clock.advance(GRACE / 2)
    rig.leader._membership.lost("h2", h2)
    rig.leader._membership.lost("h2", h2)
    rig.clock.advance(GRACE / 2)
    assert [host.id for host in rig.leader.hosts()] == ["h2"]
    rig.clock.advance(GRACE / 2)
    assert [(event.kind.value, event.host_id) for event in rig.events[2:]] == [
        ("down", "h1"),
        ("down", "h2"),
        ("remove", "h1"),
        ("remove", "h2"),
    ]
    rig.nothing_is_left()


def test_an_old_link_is_lost(rig: Rig, h1: Link) -> None:
    """The end of a link that was replaced changes nothing."""
    rig.leader.add_host(Host("h1"), Link())
    rig.leader._membership.lost("h1", h1)
    rig.leader._membership.leave("h1", h1)
    assert not rig.leader.host("h1").down


# --- hosts that drain ---------------------------------------------------------


def test_draining(rig: Rig, h1: Link, h2: Link) -> None:
    """A host that drains keeps its jobs and gets none, until it drains no longer."""
    rig.leader.add_host(Host("h1", {}, (job("a"),), draining=True), h1)
    assert rig.leader.host("h1").draining
    (error,) = rig.submit(h2=[job("b")], h1=[job("c")])
    assert isinstance(error, HostNotReady)
    assert str(error) == "host h1 can't take job c: it is draining"
    assert (h1.asked, h2.asked, rig.jobs()["h1"]) == ([], [], ["a"])
    rig.leader.host_draining("h1", False)
    rig.submit(h1=[job("c")])
    assert h1.asked == [(["c"], 7)]
    rig.leader.host_draining("h1", True)
    assert isinstance(rig.submit(h1=[job("d")])[0], HostNotReady)
    rig.leader.add_host(Host("h1"), h1)
    assert not rig.leader.host("h1").draining


def test_draining_host_is_asked_again(rig: Rig, h1: Link) -> None:
    """A batch that is repeated is answered as before, for nothing new is in it; one with a new job is not."""
    rig.submit(h1=[job("a"), job("b")])
    h1.accept()
    rig.leader.job_ended("h1", "b")
    rig.leader.host_draining("h1", True)
    again = rig.submit(h1=[job("b"), job("a")])
    h1.accept(DONE, STARTING)
    assert again == [[Placement("b", "h1", DONE), Placement("a", "h1", STARTING)]]
    (error,) = rig.submit(h1=[job("a"), job("c")])
    assert str(error) == "host h1 can't take job c: it is draining"


def told(deferred: Deferred[None]) -> list[Any]:
    results: list[Any] = []
    deferred.addBoth(lambda got: results.append(got.value if isinstance(got, Failure) else got))
    return results


def test_told_to_drain(rig: Rig, h1: Link) -> None:
    """Whoever has a host drain is answered when the host has that on disk."""
    answer = told(rig.leader.set_draining("h1", True))
    assert (h1.told, answer) == ([(True, 7)], [])
    h1.drains.callback(None)
    assert answer == [None]
    assert rig.clock.getDelayedCalls() == []


def test_does_not_drain(rig: Rig, h1: Link, h2: Link) -> None:
    """It is told if it can't be told to the host, or the host does not answer, or refuses."""
    slow = told(rig.leader.set_draining("h1", True))
    rig.clock.advance(ACKNOWLEDGE_WITHIN)
    h2.drains.errback(JournalFailed("full"))
    refused = told(rig.leader.set_draining("h2", True))
    unknown = told(rig.leader.set_draining("h3", True))
    rig.leader._membership.lost("h1", h1)
    down = told(rig.leader.set_draining("h1", True))
    rig.leader.register(Host("f1"), lambda _: None)
    foreign = told(rig.leader.set_draining("f1", True))
    rig.confirmed = False
    uncertain = told(rig.leader.set_draining("h2", True))
    errors = [type(answer[0]) for answer in (slow, refused, unknown, down, foreign, uncertain)]
    assert errors == [TookTooLong, JournalFailed, UnknownHost, NotReady, InvalidField, NoLeader]
    assert len(h2.told) == 1


# --- a new leader -------------------------------------------------------------


def test_recovering(rig: Rig) -> None:
    """Until all hosts that are expected have reported nothing is placed, and the list is not complete."""
    for expected in (None, ["h1", "h2"]):
        new = rig.new_leader(expected)
        assert not new.complete()
        if expected is None:
            assert isinstance(rig.submitted(new, h1=[job("a")])[0], NotReady)
            new.expect({"h1": "", "h2": ""})
        link = Link()
        new.add_host(Host("h1"), link)
        assert not new.complete()
        (error,) = rig.submitted(new, h1=[job("a")])
        assert isinstance(error, NotReady)
        assert "h2" in str(error)
        new.add_host(Host("h2"), Link())
        assert new.complete()
        rig.submitted(new, h1=[job("a")])
        link.accept()
        new.expect({"h3": ""})
        assert new.complete()
        rig.nothing_is_left()


def test_recovered_by_losing_hosts(rig: Rig) -> None:
    """A host that is not registered any more is waited for no longer."""
    new = rig.new_leader(["h1", "h2"])
    new.add_host(Host("h1"), Link())
    new.expect({"h1": ""})
    assert new.complete()


def test_recovery_ends(rig: Rig) -> None:
    """After the grace a new leader goes on with the hosts that it has."""
    new = rig.new_leader(None)
    new.add_host(Host("h1"), Link())
    rig.clock.advance(GRACE)
    assert new.complete()
    assert isinstance(rig.submitted(new, h2=[job("a")])[0], UnknownHost)
    rig.nothing_is_left()


def test_not_certain(rig: Rig, h1: Link) -> None:
    """A leader that is not certain that it leads does nothing, and vouches for nothing."""
    waiting = rig.submit(h1=[job("b")])
    rig.confirmed = False
    assert isinstance(rig.submit(h1=[job("a")])[0], NoLeader)
    assert len(h1.asked) == 1
    assert not rig.leader.complete()
    h1.accept()
    assert isinstance(waiting[0], TookTooLong)
    assert list(waiting[0].outcomes) == [("b", "unknown")]
    with pytest.raises(NoLeader):
        rig.leader.register(Host("f1"), lambda _: None)


# --- foreign hosts ------------------------------------------------------------


def test_foreign_host(rig: Rig) -> None:
    """A host that can't acknowledge has its jobs as soon as they are written to it, and each once."""
    written: list[str] = []
    gone = rig.leader.register(
        Host("f1", {"a": "b"}, (job("x"),)), lambda jobs: written.extend(job.id for job in jobs)
    )
    for _ in range(2):
        assert len(rig.submit(f1=[job("a"), job("a"), job("x")])[0]) == 3
    assert written == ["a"]
    assert len(rig.leader.host("f1").jobs) == 2
    rig.leader.remove_job("f1", "x")
    rig.leader.remove_job("f1", "x")
    assert len(rig.leader.host("f1").jobs) == 1
    assert rig.submit(f1=[job("x"), job("b")])[0] == [
        Placement("x", "f1", DONE),
        Placement("b", "f1", STARTING),
    ]
    assert isinstance(rig.submit(f1=[job("x", "other")])[0], JobConflict)
    assert (written, len(rig.leader.host("f1").jobs)) == (["a", "b"], 2)
    with pytest.raises(DuplicateHost):
        rig.leader.register(Host("f1"), lambda _: None)
    gone()
    gone()
    with pytest.raises(UnknownHost):
        rig.leader.host("f1")
    assert [event.kind.value for event in rig.events[2:]] == ["add", "remove"]


@pytest.mark.parametrize("host_id", ["", "a-b", "a\0"])
def test_no_host_id(rig: Rig, host_id: str) -> None:
    """What is no host's ID can't be registered."""
    with pytest.raises(InvalidField):
        rig.leader.register(Host(host_id), lambda _: None)


# --- hosts that don't answer --------------------------------------------------


def test_too_late(rig: Rig, h1: Link, h2: Link) -> None:
    """A host that takes too long ends the wait, with what is known of each job; it counts all the same."""
    answer = rig.submit(h1=[job("a")], h2=[job("b"), job("c")])
    h1.accept()
    rig.clock.advance(ACKNOWLEDGE_WITHIN - 0.1)
    assert answer == []
    rig.clock.advance(0.1)
    assert isinstance(answer[0], TookTooLong)
    assert "30 s" in str(answer[0])
    assert list(answer[0].outcomes) == [("a", "accepted"), ("b", "unknown"), ("c", "unknown")]
    assert isinstance(rig.submit(h1=[job("b")])[0], JobConflict)
    assert rig.jobs() == {"h1": ["a"], "h2": []}
    h2.accept()
    assert rig.jobs() == {"h1": ["a"], "h2": ["b", "c"]}
    rig.nothing_is_left()


def test_refused_too_late(rig: Rig, h1: Link) -> None:
    """A host that refuses when nobody waits any more makes the IDs free."""
    answer = rig.submit(h1=[job("a")])
    rig.clock.advance(ACKNOWLEDGE_WITHIN)
    assert isinstance(answer[0], TookTooLong)
    h1.refuse(JournalFailed("full"))
    rig.nothing_is_left()
    rig.submit(h2=[job("a")])
    assert len(rig.links["h2"].asked) == 1


def test_one_late_host_and_one_that_refuses(rig: Rig, h1: Link, h2: Link) -> None:
    """A refusal is told, also when another host is late."""
    answer = rig.submit(h1=[job("a")], h2=[job("b")])
    h2.refuse(NotReady("not yet"))
    rig.clock.advance(ACKNOWLEDGE_WITHIN)
    assert list(answer[0].outcomes) == [("a", "unknown"), ("b", "refused")]
    h1.accept()
    assert rig.jobs()["h1"] == ["a"]
    rig.nothing_is_left()


def test_slow_host(rig: Rig, h1: Link, h2: Link) -> None:
    """A host that does not answer keeps nobody from another one."""
    rig.submit(h1=[job("a")])
    answer = rig.submit(h2=[job("b")])
    h2.accept()
    assert len(answer) == 1
    h1.accept()


@pytest.mark.parametrize(
    "error", [TookTooLong("no answer"), EngineUnavailable("gone"), ConnectionError("lost")]
)
def test_unknown_outcome(rig: Rig, h1: Link, error: Exception, logged_failures: LoggedFailures) -> None:
    """A host that is lost on the way may have the jobs, so their IDs go to no other host."""
    answer = rig.submit(h1=[job("a")])
    h1.refuse(error)
    assert isinstance(answer[0], TookTooLong)
    assert list(answer[0].outcomes) == [("a", "unknown")]
    assert isinstance(rig.submit(h2=[job("a")])[0], JobConflict)
    again = rig.submit(h1=[job("a")])
    h1.accept()
    assert again == [[Placement("a", "h1", STARTING)]]
    assert len(logged_failures.flush(ConnectionError)) == isinstance(error, ConnectionError)
    rig.nothing_is_left()


def test_unknown_until_the_host_reports(rig: Rig, h1: Link) -> None:
    """What a host was thought to have, and does not tell of when it reports, is gone."""
    rig.submit(h1=[job("a")])
    h1.refuse(TookTooLong("no answer"))
    rig.leader.add_host(Host("h1"), h1)
    assert rig.jobs()["h1"] == []


def test_answer_of_the_wrong_length(rig: Rig, h1: Link, logged_failures: LoggedFailures) -> None:
    """A host that does not say of each job where it is leaves nothing held for ever."""
    answer = rig.submit(h1=[job("a"), job("b")])
    h1.accept(STARTING)
    assert isinstance(answer[0], TookTooLong)
    assert len(logged_failures.flush(ValueError)) == 1
    rig.nothing_is_left()


def test_host_removed_on_the_way(rig: Rig, h1: Link) -> None:
    """A host that goes while it has a batch is answered for, and the jobs go with it."""
    answer = rig.submit(h1=[job("a")])
    rig.leader.remove_host("h1")
    h1.accept()
    assert len(answer[0]) == 1
    assert rig.jobs() == {"h2": []}
    rig.nothing_is_left()


def test_too_much_on_the_way(rig: Rig, h1: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that has too much to acknowledge gets no more until it did; others do."""
    monkeypatch.setattr(batches, "MAX_UNACKNOWLEDGED", 3)
    rig.submit(h1=[job("a"), job("b")])
    rig.submit(h1=[job("c"), job("d")])
    rig.clock.advance(ACKNOWLEDGE_WITHIN)
    (error,) = rig.submit(h1=[job("e")], h2=[job("f")])
    assert isinstance(error, NotReady)
    assert "h1" in str(error)
    assert (len(h1.asked), rig.links["h2"].asked) == (2, [])
    rig.submit(h2=[job("f")])
    h1.accept()
    rig.submit(h1=[job("e")])
    assert len(h1.asked) == 3


def test_client_gone(rig: Rig, h1: Link) -> None:
    """A batch goes on to its end when nobody waits for it."""
    answer = rig.leader.submit({"h1": [job("a")]})
    answer.addErrback(lambda _: None)
    answer.cancel()
    h1.accept()
    assert rig.jobs()["h1"] == ["a"]
    rig.nothing_is_left()


# --- the end of the leadership ------------------------------------------------


def test_stopped(rig: Rig, h1: Link) -> None:
    """A leader that gives up takes no batches; what is on its way comes to its end."""
    answer = rig.submit(h1=[job("a")])
    rig.leader.stopService()
    (error,) = rig.submit(h1=[job("b")])
    assert isinstance(error, NotReady)
    h1.accept()
    assert len(answer[0]) == 1
    assert len(h1.asked) == 1
    rig.nothing_is_left()


# --- large batches -------------------------------------------------------------


def many(prefix: str, count: int) -> list[Job]:
    return [job(f"{prefix}{n}") for n in range(count)]


def settle(rig: Rig) -> None:
    for _ in range(200):
        rig.clock.advance(0)


def test_a_large_batch_leaves_others_their_turn(rig: Rig, h1: Link, h2: Link) -> None:
    """It is dealt with in steps, and a small one that comes later is done earlier."""
    large = rig.submit(h1=many("a", 3 * STEP), h2=many("b", 3 * STEP))
    small = rig.submit(h2=[job("c")])
    assert h2.asked == [(["c"], 7)]
    h2.accept()
    assert small == [[Placement("c", "h2", STARTING)]]
    settle(rig)
    h1.accept()
    h2.accept()
    assert rig.jobs()["h1"] == [f"a{n}" for n in range(STEP)]  # the rest in the next turns
    settle(rig)
    assert [len(placements) for placements in large] == [6 * STEP]
    assert {host: len(jobs) for host, jobs in rig.jobs().items()} == {"h1": 3 * STEP, "h2": 3 * STEP + 1}
    rig.clock.advance(ACKNOWLEDGE_WITHIN)
    rig.nothing_is_left()


def test_a_large_batch_is_refused_as_a_whole(rig: Rig, h1: Link, h2: Link) -> None:
    """If the last of many jobs can't be, nothing of them is held any more."""
    rig.submit(h1=[job("x")])
    h1.accept()
    refused = rig.submit(h1=many("a", 3 * STEP), h2=[*many("b", 3 * STEP), job("x")])
    settle(rig)
    assert [type(result) for result in refused] == [JobConflict]
    assert "x is on host h1" in str(refused[0])
    assert h1.asked[1:] == h2.asked == []
    rig.nothing_is_left()


def test_ids_of_a_large_batch_are_held_while_it_is_looked_at(rig: Rig, h1: Link, h2: Link) -> None:
    """Of two batches that want an ID on two hosts, the second is refused, also between steps."""
    first = rig.submit(h1=many("a", 2 * STEP))
    rig.clock.advance(0)
    rig.clock.advance(0)
    second = rig.submit(h2=[job("a0")])
    assert [type(result) for result in second] == [JobConflict]
    settle(rig)
    h1.accept()
    settle(rig)
    assert len(first[0]) == 2 * STEP
    assert h2.asked == []


def test_a_host_is_not_asked_for_more_than_it_may_have_to_acknowledge(rig: Rig, h1: Link) -> None:
    refused = rig.submit(h1=many("a", MAX_UNACKNOWLEDGED + 1))
    settle(rig)
    assert [type(result) for result in refused] == [InvalidField]
    assert str(refused[0]) == "h1 must not get more than 20000 jobs at once"
    assert h1.asked == []
    rig.nothing_is_left()


def test_deposed_between_two_hosts(rig: Rig, h2: Link) -> None:
    """When it is not certain any more that it leads, the leader hands nothing to the hosts that are left."""

    class Last(Link):
        def submit(self, part: Part, term: int) -> Deferred[list[JobStatus]]:
            rig.confirmed = False
            return super().submit(part, term)

    last = Last()
    rig.leader.add_host(Host("h0"), last)
    results = rig.submit(h0=[job("a")], h2=[job("b")])
    last.accept()
    assert h2.asked == []
    assert h2.looked[0].dropped
    assert isinstance(results[0], TookTooLong)
    assert list(results[0].outcomes) == [("a", "unknown"), ("b", "refused")]
    rig.confirmed = True
    rig.clock.advance(ACKNOWLEDGE_WITHIN)
    rig.nothing_is_left()


def test_host_removed_while_a_large_batch_is_looked_at(rig: Rig, h1: Link) -> None:
    """The batch is refused, and nothing is held of it any more."""
    refused = rig.submit(h1=ListedJobs.of(many("a", STEP + 2)))
    assert refused == []
    rig.leader.remove_host("h1")
    settle(rig)
    assert [type(result) for result in refused] == [UnknownHost]
    assert h1.asked == []
    rig.nothing_is_left()


def test_host_reports_while_a_large_batch_is_committed(rig: Rig, h1: Link) -> None:
    """What a host reports is newer than an answer it gave before, be that committed yet or not."""
    rig.submit(h1=many("a", 2 * STEP))
    settle(rig)
    h1.accept()
    rig.leader.add_host(Host("h1", jobs=[job("a999")]), Link(), ended=["a998"])
    settle(rig)
    assert rig.jobs()["h1"] == ["a999"]
    for gone in ("a0", "a997", "a998"):
        assert isinstance(rig.submit(h2=[job(gone)])[0], JobConflict)


def test_leads_again_with_the_same_term(rig: Rig) -> None:
    """Who listened before is told that events were missed, not given others that have their numbers."""
    heard = rig.leader.events.last_id
    rig.leader.stopService()
    rig.clock.advance(2)
    again = Leader(rig.clock, lambda: datetime(2020, 1, 1, tzinfo=UTC), 7, "h1", "10.0.0.1:1113")
    again.startService()
    for host_id in ("h1", "h2", "h3"):
        again.add_host(Host(host_id), Link())
    with pytest.raises(ResyncNeeded):
        again.events.subscribe(lambda _, event: None, after=heard)


def test_many_hosts_that_are_lost_at_once_are_removed_a_few_at_a_time(rig: Rig) -> None:
    """Others have their turn in between; in the end all are gone."""
    links = {f"n{n:02}": Link() for n in range(35)}
    for host_id, link in links.items():
        rig.leader.add_host(Host(host_id), link)
        rig.leader._membership.lost(host_id, link)
    left: list[int] = []

    def other() -> None:
        left.append(len(rig.leader.hosts()) - 2)
        if left[-1]:
            rig.clock.callLater(0, other)

    rig.clock.callLater(GRACE, other)
    rig.clock.advance(GRACE)
    assert left == [25, 15, 5, 0]
    assert [host.id for host in rig.leader.hosts()] == ["h1", "h2"]
    rig.nothing_is_left()
