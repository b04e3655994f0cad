"""The leader's side of sessions: who is let in, how many at a time, and who is gone."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field
from msgspec import Raw
from twisted.internet.defer import Deferred

from flynnhost import messages
from flynnhost.canonical import canonical
from flynnhost.cluster import host_requests
from flynnhost.cluster.host_session import HostSession
from flynnhost.cluster.membership import GRACE
from flynnhost.cluster.past import MAX_PAST_JOBS
from flynnhost.cluster.sessions import REPORTING_AT_ONCE
from flynnhost.errors import (
    DuplicateHost,
    HostNotReady,
    InvalidField,
    JobConflict,
    JournalFailed,
    NoLeader,
    NotReady,
    TookTooLong,
)
from flynnhost.messages import (
    BEAT,
    MAX_PAST,
    Accepted,
    Attributes,
    Beat,
    Bye,
    Campaign,
    Checked,
    Created,
    Draining,
    Drop,
    Ended,
    EndedBefore,
    FromHost,
    FromLeader,
    Hello,
    Refused,
    Report,
    SetDraining,
    Submit,
    Take,
    Welcome,
)
from flynnhost.model import Artifact, Host, Job, JobStatus, Placement
from flynnhost.testing.session_rig import Lead, SessionRig
from tests.conftest import LoggedFailures


def job(job_id: str, url: str = "busybox") -> Job:
    return Job(job_id, Artifact(url))


@define(eq=False)
class HostEnd:
    """A host's end of a session: what it was told."""

    rig: Rig
    lead: Lead
    told: list[FromLeader] = field(factory=list)
    full: bool = False
    closed: bool = False
    session: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.session = self.lead.leader.open_session(self)

    def send(self, message: bytes) -> None:
        assert not self.closed
        self.told.append(messages.decode_from_leader(message))

    def close(self) -> None:
        self.closed = True

    def say(self, message: FromHost) -> None:
        self.session.received(messages.encode(message))

    def hello(
        self, host_id: str = "h1", instance: str = "i", boot: str = "b", number: int = 1, heard: int = 0
    ) -> HostEnd:
        self.say(Hello(host_id, instance, boot, number, heard, {"zone": "a"}))
        return self

    def report(self, *jobs: Job) -> HostEnd:
        self.say(Report([Raw(canonical(each)) for each in jobs], last=True))
        return self

    def bye(self) -> Bye:
        """The last message, which must be that the session ends."""
        bye = self.told[-1]
        assert isinstance(bye, Bye)
        assert self.closed
        return bye

    def submit(self) -> Submit:
        submit = self.told[-1]
        assert isinstance(submit, Submit)
        return submit


@define(eq=False)
class Rig(SessionRig):
    """A leader of term 7, and hosts that do as a test says."""

    lead7: Lead = field(init=False)
    outranked: list[int] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        SessionRig.__attrs_post_init__(self)
        self.lead7 = self.lead("leader", 7, outranked=self.outranked.append)

    def connect(self) -> HostEnd:
        return HostEnd(self, self.lead7)

    def joined(self, host_id: str = "h1", *jobs: Job) -> HostEnd:
        return self.connect().hello(host_id).report(*jobs)

    def events(self) -> list[tuple[str, str]]:
        return [(event.kind.value, event.host_id) for event in self.lead7.told]


@pytest.fixture
def rig() -> Rig:
    return Rig()


# --- hosts that drain ---------------------------------------------------------


def test_draining(rig: Rig) -> None:
    """Whether a host drains, and what its machine has, it says as it comes; and again when it changes."""
    end = rig.connect()
    end.say(Hello("h1", "i", "b", 1, 0, {}, {"memory": 1024, "cpu": 2000}, draining=True))
    end.report()
    host = rig.lead7.leader.host("h1")
    assert (host.draining, dict(host.resources)) == (True, {"memory": 1024, "cpu": 2000})
    assert isinstance(rig.lead7.submit({"h1": [job("a")]})[0], HostNotReady)
    end.say(Draining(draining=False))
    assert not rig.lead7.leader.host("h1").draining
    assert rig.lead7.submit({"h1": [job("a")]}) == []


def test_attributes(rig: Rig) -> None:
    """What is said of a host, and where it is reached, it says as it comes; the first also as it changes."""
    end = rig.connect()
    end.say(Hello("h1", "i", "b", 1, 0, {"zone": "a"}, addr="192.0.2.7:1113"))
    end.report()
    host = rig.lead7.leader.host("h1")
    assert (dict(host.attributes), host.addr) == ({"zone": "a"}, "192.0.2.7:1113")
    end.say(Attributes({"zone": "b"}))
    assert rig.lead7.leader.host("h1").attributes == {"zone": "b"}
    assert rig.lead7.leader.host("h1").addr == "192.0.2.7:1113"


def test_attributes_of_a_session_that_is_over(rig: Rig) -> None:
    """What an older session says of a host counts no more."""
    old = rig.joined()
    rig.connect().hello(number=2).report().say(Attributes({"zone": "new"}))
    old.say(Attributes({"zone": "old"}))
    assert rig.lead7.leader.host("h1").attributes == {"zone": "new"}


@pytest.mark.parametrize("refused", [True, False])
def test_told_to_drain(rig: Rig, refused: bool) -> None:
    """A host that is told to drain says so when it has that on disk, or why not."""
    end = rig.joined()
    results: list[Any] = []
    rig.lead7.leader.set_draining("h1", True).addBoth(results.append)
    asked = end.told[-1]
    assert asked == SetDraining(1, 7, draining=True)
    if refused:
        end.say(Refused(1, "journal_failed", ["full"]))
        assert results[0].check(JournalFailed)
    else:
        end.say(Draining(draining=True))
        end.say(Accepted(1, []))
        assert results == [None]
    assert rig.lead7.leader.host("h1").draining is not refused
    end.session.lost("broken")
    assert rig.clock.getDelayedCalls()[0].getTime() > rig.clock.seconds()


# --- candidates ---------------------------------------------------------------


def test_invited(rig: Rig) -> None:
    """A host that is asked to become a candidate is told so, when it has joined and is connected."""
    end = rig.connect().hello()
    assert not rig.lead7.leader.invite("h1")
    end.report()
    assert rig.lead7.leader.invite("h1")
    assert end.told[-1] == Campaign()
    end.session.lost("broken")
    assert not rig.lead7.leader.invite("h1")
    assert not rig.lead7.leader.invite("h2")


# --- joining ------------------------------------------------------------------


def test_joins(rig: Rig) -> None:
    """A host is let in, reports in pieces, and then is there."""
    end = rig.connect().hello()
    assert end.told == [Welcome(7, BEAT, MAX_PAST)]
    end.say(Report([Raw(canonical(job("a")))], last=False))
    assert list(rig.lead7.leader.hosts()) == []
    end.report(job("b"), job("a"))
    (host,) = rig.lead7.leader.hosts()
    assert (host.id, dict(host.attributes), host.down) == ("h1", {"zone": "a"}, False)
    assert rig.lead7.jobs() == {"h1": ["a", "b"]}
    assert rig.events() == [("add", "h1")]
    assert rig.lead7.leader.complete()


def test_changes(rig: Rig) -> None:
    """What comes and ends on the host is known."""
    end = rig.joined("h1", job("a"))
    end.say(Created(Raw(canonical(job("b")))))
    end.say(Ended("a"))
    end.say(Ended("nothing"))
    assert rig.lead7.jobs() == {"h1": ["b"]}


def test_ended_before(rig: Rig) -> None:
    """The IDs of jobs that had ended before a host joined get onto no other host."""
    end = rig.connect().hello()
    end.say(EndedBefore(["a", "b"], False))
    end.report()
    rig.joined("h2")
    for job_id in ("a", "b"):
        assert isinstance(rig.lead7.submit({"h2": [job(job_id)]})[0], JobConflict)
    assert rig.lead7.submit({"h2": [job("c")]}) == []


@pytest.mark.parametrize("taken", [True, False])
def test_ended(rig: Rig, taken: bool) -> None:
    """The ID of a job that ends gets onto no other host; but if it never was there it does."""
    end = rig.joined("h1", job("a"))
    rig.joined("h2")
    end.say(Ended("a", taken))
    result = rig.lead7.submit({"h2": [job("a")]})
    assert [isinstance(error, JobConflict) for error in result] == [True] * taken


def test_how_much_of_the_past(rig: Rig) -> None:
    """The more hosts there are, the fewer jobs each is to tell of that have ended."""
    lead = rig.lead("leader", 8, expected=[f"h{number}" for number in range(5_000)])
    assert HostEnd(rig, lead).hello().told == [Welcome(8, BEAT, MAX_PAST_JOBS // 10_000)]


def test_too_much_of_the_past(rig: Rig) -> None:
    """A host that tells of more than it should is not listened to."""
    end = rig.connect().hello()
    end.say(EndedBefore([f"j{number}" for number in range(MAX_PAST + 1)], False))
    assert "job_ids" in end.bye().reason


@pytest.mark.parametrize("acknowledged", [True, False])
def test_lost_with_a_job(rig: Rig, acknowledged: bool) -> None:
    """A job that a host is back without has ended if it was acknowledged; else it may go anywhere."""
    end = rig.joined()
    rig.joined("h2")
    rig.lead7.submit({"h1": [job("a")]})
    if acknowledged:
        end.say(Accepted(end.submit().request, [0]))
    end.session.lost("broken")
    assert isinstance(rig.lead7.submit({"h2": [job("a")]})[0], JobConflict)
    rig.connect().hello(number=2).report()
    result = rig.lead7.submit({"h2": [job("a")]})
    assert [isinstance(error, JobConflict) for error in result] == [True] * acknowledged


@pytest.mark.parametrize("host_id", ["", "a-b"])
def test_no_host_id(rig: Rig, host_id: str) -> None:
    """A host without a proper ID is sent away for good."""
    assert not rig.connect().hello(host_id).bye().retry


def test_later_leader(rig: Rig) -> None:
    """A host that has heard a later leader is sent away."""
    end = rig.connect()
    end.say(Hello("h1", "i", "b", 1, 8, {}))
    assert end.bye().retry


def test_second_host(rig: Rig) -> None:
    """A second host of the same ID is refused, while the first is up and while it is away."""
    first = rig.joined()
    assert "another host" in rig.connect().hello(instance="other").bye().reason
    first.session.lost("broken")
    rig.pass_time(GRACE / 2)
    assert "another host" in rig.connect().hello(instance="other").bye().reason
    rig.pass_time(GRACE / 2)
    rig.connect().hello(instance="other").report()
    assert rig.events() == [("add", "h1"), ("down", "h1"), ("remove", "h1"), ("add", "h1")]


def test_second_host_of_the_same_process(rig: Rig) -> None:
    """A newer session of the same process takes the place of the older one, whose end changes nothing."""
    first = rig.joined("h1", job("a"))
    second = rig.connect().hello(number=2)
    assert first.bye().retry
    second.report(job("b"))
    first.session.lost("closed")
    first.say(Ended("b"))
    first.say(Created(Raw(canonical(job("c")))))
    assert rig.lead7.jobs() == {"h1": ["b"]}
    assert not rig.lead7.leader.host("h1").down
    assert rig.events() == [("add", "h1"), ("down", "h1"), ("up", "h1")]


def test_older_session_comes_late(rig: Rig) -> None:
    """An older session that comes after a newer one is refused."""
    rig.connect().hello(number=2).report()
    assert "later session" in rig.connect().hello(number=1).bye().reason


def test_superseded_while_it_waits(rig: Rig) -> None:
    """A session that was replaced before it reported has no say."""
    first = rig.connect().hello()
    rig.connect().hello(number=2).report(job("b"))
    assert first.closed
    assert rig.lead7.jobs() == {"h1": ["b"]}


def test_next_process(rig: Rig) -> None:
    """A next process of the same host is let in when the last one is not heard of any more."""
    first = rig.joined("h1", job("a"))
    rig.pass_time(8)
    first.say(Beat())
    rig.pass_time(8)
    assert "another process" in rig.connect().hello(boot="b2").bye().reason
    rig.pass_time(2)
    rig.connect().hello(boot="b2").report()
    assert first.closed
    assert rig.lead7.jobs() == {"h1": []}


def test_next_process_after_the_end(rig: Rig) -> None:
    """Or at once, when the connection of the last one has ended."""
    rig.joined("h1", job("a")).session.lost("broken")
    rig.connect().hello(boot="b2").report(job("a"))
    assert rig.lead7.jobs() == {"h1": ["a"]}


def test_not_certain(rig: Rig) -> None:
    """A leader that is not certain that it leads lets nobody in."""
    end = rig.connect()
    rig.lead7.sure = False
    with pytest.raises(NoLeader):
        rig.connect()
    assert end.hello().bye().retry


def test_who_is_registered(rig: Rig) -> None:
    """The ID of a host that has not reported yet is no other's: not that of a copy, nor of a foreign host."""
    lead = rig.lead("new", 8, expected=None)
    lead.leader.expect({"h1": "i", "h2": "i2"})
    for _ in range(2):
        assert "another host" in HostEnd(rig, lead).hello("h1", "copy").bye().reason
        with pytest.raises(DuplicateHost):
            lead.leader.register(Host("h1"), lambda jobs: None)
        HostEnd(rig, lead).hello("h1", "i").report().session.lost("broken")
        HostEnd(rig, lead).hello("h2", "i2").report()
        rig.pass_time(GRACE + 1)
    lead.leader.expect({"h2": "i2"})
    assert HostEnd(rig, lead).hello("h1", "copy").told == [Welcome(8, BEAT, MAX_PAST)]


def test_pacing(rig: Rig) -> None:
    """Only so many hosts report at a time; the others wait their turn, which they lose if they go."""
    ends = [rig.connect().hello(f"h{number}") for number in range(REPORTING_AT_ONCE + 3)]
    assert [bool(end.told) for end in ends[-4:]] == [True, False, False, False]
    ends[-3].session.lost("gone")
    ends[0].report()
    ends[1].session.lost("gone")
    assert [bool(end.told) for end in ends[-4:]] == [True, False, True, True]
    for end in ends[2:-3] + ends[-2:]:
        end.report()
    assert len(rig.lead7.leader.hosts()) == REPORTING_AT_ONCE + 1


def test_deposed_while_a_thousand_hosts_wait(rig: Rig) -> None:
    """A leader that is not certain any more that it leads sends all of them away."""
    ends = [rig.connect().hello(f"h{number}") for number in range(1000)]
    rig.lead7.sure = False
    ends[0].session.lost("gone")
    assert all(end.bye().retry for end in ends[REPORTING_AT_ONCE:])


def test_a_thousand_hosts(rig: Rig) -> None:
    """A thousand hosts join one after the other, and go as one."""
    ends = [rig.connect().hello(f"h{number}") for number in range(1000)]
    for end in ends:
        assert end.told
        end.report(job(f"job{end.session.host_id}"))
    assert len(rig.lead7.leader.hosts()) == 1000
    rig.pass_time(20)
    assert all(end.closed for end in ends)
    assert all(host.down for host in rig.lead7.leader.hosts())
    rig.pass_time(GRACE)
    assert list(rig.lead7.leader.hosts()) == []
    assert rig.clock.getDelayedCalls() == []


# --- life ---------------------------------------------------------------------


def test_silent(rig: Rig) -> None:
    """A host that is not heard of is down; one that is stays, and hears of the leader."""
    silent, alive = rig.joined("h1"), rig.joined("h2")
    for _ in range(6):
        rig.pass_time(3)
        alive.say(Beat())
    assert (silent.closed, alive.closed) == (True, False)
    assert rig.lead7.leader.host("h1").down
    assert alive.told.count(Beat()) in (3, 4)


def test_full(rig: Rig) -> None:
    """To a host that takes nothing no more signs of life are sent."""
    end = rig.joined()
    end.full = True
    rig.pass_time(12)
    assert Beat() not in end.told


@pytest.mark.parametrize("introduced", [True, False])
def test_does_not_get_on(rig: Rig, introduced: bool) -> None:
    """A host that beats and does nothing else is given up: it takes another's turn."""
    end = rig.connect()
    if introduced:
        end.hello()
    for _ in range(11):
        rig.pass_time(3)
        if not end.closed:
            end.say(Beat())
    assert "did not get on" in end.bye().reason


def test_leader_stood_still(rig: Rig) -> None:
    """A leader that stood still does not take all hosts for gone."""
    end = rig.joined()
    rig.pass_time(2)
    rig.clock.rightNow += 60
    rig.pass_time(1)
    assert not end.closed
    rig.pass_time(16)
    assert end.closed


# --- jobs ---------------------------------------------------------------------


def test_submit(rig: Rig) -> None:
    """Jobs are sent in their canonical form, and committed when they are acknowledged."""
    end = rig.joined()
    answer = rig.lead7.submit({"h1": [job("a"), job("b")]})
    asked = end.submit()
    assert [bytes(raw) for raw in asked.jobs] == [canonical(job("a")), canonical(job("b"))]
    assert (asked.term, asked.check, asked.last) == (7, False, True)
    end.say(Accepted(asked.request, [0, 1]))
    assert answer == [[Placement("a", "h1", JobStatus(0)), Placement("b", "h1", JobStatus(1))]]
    assert rig.lead7.jobs() == {"h1": ["a", "b"]}


def test_many_jobs(rig: Rig) -> None:
    """Many jobs are sent in several messages."""
    end = rig.joined()
    rig.lead7.submit({"h1": [job(f"j{number}") for number in range(messages.CHUNK_JOBS * 2 + 1)]})
    rig.pass_time(0.1)
    sent = [each for each in end.told if isinstance(each, Submit)]
    assert [(len(each.jobs), each.last) for each in sent] == [(200, False), (200, False), (1, True)]
    assert len({each.request for each in sent}) == 1


def test_refused(rig: Rig) -> None:
    """What the host refuses is told with its reason."""
    end = rig.joined()
    answer = rig.lead7.submit({"h1": [job("a")]})
    end.say(Refused(end.submit().request, "invalid_field", ["[0].resurrect", "can't be"]))
    assert isinstance(answer[0], InvalidField)
    assert str(answer[0]) == "h1[0].resurrect can't be"
    assert rig.lead7.jobs() == {"h1": []}


def test_two_hosts(rig: Rig) -> None:
    """Several hosts look first, and take then what they have looked at, without being sent it again."""
    first, second = rig.joined("h1"), rig.joined("h2")
    answer = rig.lead7.submit({"h1": [job("a")], "h2": [job("b")]})
    assert first.submit().check
    first.say(Checked(first.submit().request))
    assert isinstance(first.told[-1], Submit)
    second.say(Checked(second.submit().request))
    for end in (first, second):
        take = end.told[-1]
        assert isinstance(take, Take)
        end.say(Accepted(take.request, [0]))
    assert len(answer[0]) == 2


def test_one_of_two_hosts_objects(rig: Rig) -> None:
    """When one of them could not, the others forget what they looked at."""
    first, second = rig.joined("h1"), rig.joined("h2")
    answer = rig.lead7.submit({"h1": [job("a")], "h2": [job("b")]})
    first.say(Checked(first.submit().request))
    second.say(Refused(second.submit().request, "journal_failed", ["full"]))
    assert isinstance(first.told[-1], Drop)
    assert isinstance(answer[0], Exception)
    assert rig.lead7.jobs() == {"h1": [], "h2": []}


@pytest.mark.parametrize("checked", [True, False])
def test_lost_while_it_looks(rig: Rig, checked: bool) -> None:
    """When one of them is lost nothing is done; when it is lost later that is told of its jobs."""
    first, second = rig.joined("h1"), rig.joined("h2")
    answer = rig.lead7.submit({"h1": [job("a")], "h2": [job("b")]})
    first.say(Checked(first.submit().request))
    if checked:
        first.session.lost("broken")
        second.say(Checked(second.submit().request))
        second.say(Accepted(second.submit().request if isinstance(second.told[-1], Submit) else 1, [0]))
        assert list(answer[0].outcomes) == [("a", "refused"), ("b", "accepted")]
    else:
        second.session.lost("broken")
        assert isinstance(answer[0], HostNotReady)
        assert isinstance(first.told[-1], Drop)


def test_lost_with_jobs(rig: Rig) -> None:
    """A host that is lost before it has acknowledged may have its jobs; its next report says."""
    end = rig.joined()
    answer = rig.lead7.submit({"h1": [job("a"), job("b")]})
    end.session.lost("broken")
    assert isinstance(answer[0], TookTooLong)
    assert str(answer[0]) == "host h1 was lost: broken"
    assert list(answer[0].outcomes) == [("a", "unknown"), ("b", "unknown")]
    assert rig.lead7.jobs() == {"h1": ["a", "b"]}
    assert isinstance(rig.lead7.submit({"h1": [job("c")]})[0], HostNotReady)
    rig.connect().hello(number=2).report(job("b"))
    assert rig.lead7.jobs() == {"h1": ["b"]}


def test_too_many_bytes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many bytes of jobs a host may have to acknowledge is bounded; one job always goes."""
    monkeypatch.setattr(host_requests, "MAX_UNACKNOWLEDGED_BYTES", 10)
    end, other = rig.joined("h1"), rig.joined("h2")
    rig.lead7.submit({"h1": [job("a")]})
    assert isinstance(rig.lead7.submit({"h1": [job("b")]})[0], NotReady)
    both = rig.lead7.submit({"h1": [job("b")], "h2": [job("c")]})
    other.say(Checked(other.submit().request))
    assert isinstance(both[0], NotReady)
    end.say(Accepted(end.submit().request, [0]))
    assert rig.lead7.submit({"h1": [job("b")]}) == []
    assert isinstance(other.told[-1], Drop)


@pytest.mark.parametrize(
    "answer", [Accepted(1, [99]), Checked(1), Refused(1, "unheard_of", []), Refused(1, "not_ready", [])]
)
def test_nonsense(rig: Rig, answer: FromHost) -> None:
    """From an answer that makes no sense nothing follows for the jobs, and the session is at its end."""
    end = rig.joined()
    result = rig.lead7.submit({"h1": [job("a")]})
    end.say(answer)
    assert isinstance(result[0], TookTooLong)
    assert rig.lead7.jobs() == {"h1": ["a"]}
    assert end.closed


@pytest.mark.parametrize(
    "message",
    [
        Accepted(5, []),
        Hello("h1", "i", "b", 3, 0, {}),
        Report([], last=True),
        Created(Raw(b"{}")),
        EndedBefore([], True),
    ],
)
def test_out_of_place(rig: Rig, message: FromHost) -> None:
    """What makes no sense where it comes ends the session."""
    end = rig.joined()
    end.say(message)
    assert end.bye().retry
    end.say(Beat())


def test_not_a_message(rig: Rig) -> None:
    """What is no message ends the session too."""
    end = rig.connect()
    end.session.received(b"\xff{")
    assert end.closed


def test_length_of_the_answer(rig: Rig, logged_failures: LoggedFailures) -> None:
    """An answer for fewer jobs than were sent leaves open what became of them."""
    end = rig.joined()
    answer = rig.lead7.submit({"h1": [job("a"), job("b")]})
    end.say(Accepted(1, [0]))
    assert isinstance(answer[0], TookTooLong)
    assert len(logged_failures.flush(ValueError)) == 1


# --- the end ------------------------------------------------------------------


def test_leader_stops(rig: Rig) -> None:
    """With the leadership all sessions end, and nothing is left."""
    ends = [rig.joined("h1"), rig.connect().hello("h2"), rig.connect()]
    stopped: list[None] = []
    over: Deferred[None] = rig.lead7.leader.stopService()
    over.addCallback(stopped.append)
    assert all(end.bye().retry for end in ends)
    assert stopped == [None]
    with pytest.raises(NotReady):
        rig.connect()
    assert rig.clock.getDelayedCalls() == []


def test_sessions_are_one_end(rig: Rig) -> None:
    """A session that has ended says nothing, and takes nothing."""
    end = rig.joined()
    session = end.session
    assert isinstance(session, HostSession)
    session.lost("gone")
    session.lost("gone")
    session.end("again")
    session.resumed()
    assert not end.closed


def test_host_that_has_heard_a_later_leader(rig: Rig) -> None:
    """It is not admitted, for it would refuse all jobs; who elects leaders is told."""
    bye = rig.connect().hello(heard=8).bye()
    assert bye.retry
    assert "has heard a later one" in bye.reason
    assert rig.outranked == [8]
    rig.connect().hello(heard=7).report()
    assert rig.lead7.jobs() == {"h1": []}
    assert rig.outranked == [8]
