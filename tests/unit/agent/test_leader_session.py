"""A host's session with its leader, over connections that do as a test says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from attrs import define, field
from twisted.internet.defer import Deferred, fail

from flynnhost import messages
from flynnhost.agent import leader_outgoing, leader_requests
from flynnhost.agent.leader_session import REST, LeaderSession
from flynnhost.canonical import canonical, digest
from flynnhost.errors import EngineRefused, JobConflict, JournalFailed, TookTooLong
from flynnhost.messages import Beat, Bye, Drop, FromHost, FromLeader, Submit, Take, Welcome
from flynnhost.model import ActiveJob, Artifact, Job
from flynnhost.testing.agent import FakeAgent
from flynnhost.testing.session_rig import Follow, SessionRig
from flynnhost.testing.session_wire import End
from tests.conftest import LoggedFailures

LEADER = Follow("leader:1113", 7)


def job(job_id: str, url: str = "busybox", **more: Any) -> Job:
    return Job(job_id, Artifact(url), **more)


@define(eq=False)
class LeaderEnd:
    """A leader's end of a connection: what the host said, and how it ended."""

    transport: End
    said: list[FromHost] = field(factory=list)
    beats: int = 0
    ended: str = ""

    def received(self, message: bytes) -> None:
        decoded = messages.decode_from_host(message)
        if isinstance(decoded, Beat):
            self.beats += 1
        else:
            self.said.append(decoded)

    def resumed(self) -> None:
        pass

    def lost(self, reason: str) -> None:
        self.ended = reason

    def kinds(self) -> list[str]:
        return [type(each).__name__ for each in self.said]

    def jobs(self) -> list[str]:
        """The jobs that were reported."""
        reported = [raw for each in self.said if isinstance(each, messages.Report) for raw in each.jobs]
        return [msgspec.json.decode(raw)["id"] for raw in reported]


@define(eq=False)
class Rig(SessionRig):
    """A host, and a leader that says what a test wants it to."""

    agent: FakeAgent = field(init=False)
    host: LeaderSession = field(init=False)
    ends: list[LeaderEnd] = field(factory=list)
    highest: int = 0
    unanswered: list[Deferred[list[ActiveJob]]] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        SessionRig.__attrs_post_init__(self)
        self.agent = FakeAgent(self.clock, "h1", {"zone": "a"})
        self.host = self.session_of("boot1")
        self.network.leaders[LEADER.addr] = self._accept

    def session_of(self, boot: str) -> LeaderSession:
        return SessionRig.session(self, self.agent, lambda: self.highest, boot=boot)

    def _accept(self, transport: Any) -> LeaderEnd:
        self.ends.append(LeaderEnd(transport))
        return self.ends[-1]

    @property
    def end(self) -> LeaderEnd:
        return self.ends[-1]

    def say(self, message: FromLeader) -> None:
        self.end.transport.send(messages.encode(message))
        self.settle()

    def settle(self) -> None:
        self.clock.pump([0.001] * 60)

    def submit(self, number: int, *jobs: Job, term: int = 7, **more: Any) -> None:
        self.say(Submit(number, term, [msgspec.Raw(canonical(each)) for each in jobs], **more))

    def joined(self) -> LeaderEnd:
        self.host.follow(LEADER)
        self.pass_time(1)
        self.say(Welcome(7, 5.0, past=2))
        return self.end


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_introduces_itself(rig: Rig) -> None:
    """The host says who it is, and nothing more until it is welcome."""
    rig.highest = 5
    rig.agent.accept([job("a")], 0)
    rig.host.follow(LEADER)
    rig.host.follow(Follow("leader:1113", 7))
    rig.pass_time(2)
    assert rig.end.said == [messages.Hello("h1", "instance of h1", "boot1", 1, 5, {"zone": "a"})]
    assert len(rig.ends) == 1


def test_reports(rig: Rig) -> None:
    """Welcome, it reports what has ended and its active jobs, then what comes and ends; nothing twice."""
    rig.agent.accept([job("a"), job("b")], 0)
    rig.agent.end("a", 0)
    end = rig.joined()
    rig.agent.accept([job("c")], 0)
    rig.agent.run("c")
    rig.agent.end("b", 1)
    rig.settle()
    assert end.jobs() == ["b"]
    assert end.kinds() == ["Hello", "EndedBefore", "Report", "Report", "Created", "Ended"]
    assert end.said[1] == messages.EndedBefore(["a"], all=True)
    assert rig.host.joined_term == 7


def test_much_has_ended(rig: Rig) -> None:
    """Of the jobs that have ended it tells as many as the leader wants, the latest ones."""
    rig.agent.accept([job("a"), job("b"), job("c")], 0)
    for job_id in ("b", "a", "c"):
        rig.agent.end(job_id, 0)
        rig.pass_time(1)
    assert rig.joined().said[1] == messages.EndedBefore(["c", "a"], all=False)


def test_long_report(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long report goes in pieces, with beats between them; what happens meanwhile comes after it."""
    monkeypatch.setattr(messages, "CHUNK_JOBS", 2)
    rig.agent.accept([job(f"j{number}") for number in range(9)], 0)
    rig.network.window = 1
    rig.host.follow(LEADER)
    rig.pass_time(1)
    rig.end.transport.send(messages.encode(Welcome(7, 0.1)))
    rig.clock.pump([0.001] * 5)
    rig.agent.end("j3", 0)
    rig.agent.accept([job("new")], 0)
    rig.clock.pump([0.001] * 100)
    rig.pass_time(0.2)
    assert sorted(rig.end.jobs()) == sorted(f"j{number}" for number in range(9))
    assert rig.end.kinds()[-3:] == ["Report", "Ended", "Created"]
    assert rig.end.kinds().count("Report") == 6
    assert rig.end.beats > 1


def test_takes_jobs(rig: Rig) -> None:
    """Jobs of the leader are taken, and acknowledged when they are on disk, without being told of twice."""
    end = rig.joined()
    hold: Deferred[None] = Deferred()
    rig.agent.hold = hold
    rig.submit(1, job("a"), last=False)
    rig.submit(1, job("b"))
    assert end.kinds()[3:] == []
    hold.callback(None)
    rig.settle()
    assert end.said[3:] == [messages.Accepted(1, [0, 0])]
    assert rig.agent.job("a").term == 7
    assert rig.agent.job("a").digest == digest(job("a"))


@pytest.mark.parametrize(
    ("error", "name", "details"),
    [
        (JobConflict("a", "is known"), "job_conflict", ["a", "is known"]),
        (JournalFailed("full"), "journal_failed", ["full"]),
    ],
)
def test_refuses_jobs(rig: Rig, error: Exception, name: str, details: list[str]) -> None:
    """What the host does not take it refuses, with the reason."""
    end = rig.joined()
    rig.agent.hold = fail(error)
    rig.submit(1, job("a"))
    assert end.said[-1] == messages.Refused(1, name, details)  # type: ignore[arg-type]


def test_unreadable_job(rig: Rig) -> None:
    """A job that this host can't read is refused by its place."""
    end = rig.joined()
    rig.say(Submit(1, 7, [msgspec.Raw(b'{"id":7}')]))
    assert isinstance(end.said[-1], messages.Refused)
    assert end.said[-1].details[0] == "[0]"


def test_error_that_says_nothing(rig: Rig, logged_failures: LoggedFailures) -> None:
    """An error that leaves open whether the jobs were taken ends the session, for the leader to see."""
    end = rig.joined()
    rig.agent.hold = fail(EngineRefused("no"))
    rig.submit(1, job("a"))
    assert end.ended
    assert len(logged_failures.flush(EngineRefused)) == 1


def test_error_of_ours(rig: Rig, logged_failures: LoggedFailures) -> None:
    """So does one that nobody has thought of; else the leader would wait for as long as the session lasts."""
    end = rig.joined()
    rig.agent.hold = fail(KeyError("no"))
    rig.submit(1, job("a"))
    assert end.ended
    assert len(logged_failures.flush(KeyError)) == 1


def test_slow_disk(rig: Rig) -> None:
    """A host whose disk is slow goes on until it knows, and says so then."""
    end = rig.joined()
    rig.agent.hold = fail(TookTooLong("30 s"))
    rig.submit(1, job("a"))
    rig.agent.hold = None
    rig.pass_time(1.2)
    assert end.said[-1] == messages.Accepted(1, [0])


def test_slow_disk_and_another_leader(rig: Rig) -> None:
    """What is still being written when another leads is not refused for its term: the other knows of it."""
    rig.joined()
    rig.agent.hold = fail(TookTooLong("30 s"))
    rig.submit(1, job("a"))
    rig.highest = 8
    rig.agent.hold = None
    rig.pass_time(1.2)
    assert rig.agent.job("a").term == 8


def test_checks(rig: Rig) -> None:
    """Jobs that are to be looked at only are taken when that is said, and forgotten when that is."""
    end = rig.joined()
    rig.submit(1, job("a"), check=True)
    rig.submit(2, job("b"), check=True)
    assert end.said[3:] == [messages.Checked(1), messages.Checked(2)]
    assert rig.agent.jobs() == {}
    rig.say(Take(1, 7))
    rig.say(Drop(2))
    rig.say(Drop(2))
    assert end.said[-1] == messages.Accepted(1, [0])
    assert list(rig.agent.jobs()) == ["a"]
    rig.say(Take(2, 7))
    assert end.ended


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ([job("a"), job("b", resurrect=True)], "invalid_field"),
        ([job("known", "other")], "job_conflict"),
        ([job("a"), job("a", "other")], "job_conflict"),
    ],
)
def test_objects(rig: Rig, asked: list[Job], error: str) -> None:
    """What can be foreseen is said at the look."""
    rig.agent.accept([job("known")], 0)
    rig.agent.end("known", 0)
    end = rig.joined()
    rig.submit(1, *asked, check=True)
    assert isinstance(end.said[-1], messages.Refused)
    assert end.said[-1].error == error


def test_old_leader_asks(rig: Rig) -> None:
    """Jobs of a leader whose term is over are refused at the look too."""
    end = rig.joined()
    rig.highest = 8
    rig.submit(1, job("a"), check=True)
    assert end.said[-1] == messages.Refused(1, "stale_term", [7, 8])


def test_too_much_to_keep(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a host keeps for a leader that does not decide is bounded."""
    monkeypatch.setattr(leader_requests, "MAX_KEPT_BYTES", 100)
    end = rig.joined()
    rig.submit(1, job("a"), check=True)
    rig.submit(2, job("b"), job("c"), check=True)
    assert isinstance(end.said[-1], messages.Refused)
    assert end.said[-1].error == "not_ready"


# --- the end, and the next ----------------------------------------------------


def test_reconnects(rig: Rig) -> None:
    """When the connection breaks the host comes back with a higher session number."""
    rig.joined()
    rig.network.connections[-1][1].cut()
    rig.pass_time(1)
    hello = rig.end.said[0]
    assert isinstance(hello, messages.Hello)
    assert (len(rig.ends), hello.session) == (2, 2)


def test_backs_off(rig: Rig) -> None:
    """While nobody answers the tries become rare, but never stop."""
    del rig.network.leaders[LEADER.addr]
    rig.host.follow(LEADER)
    rig.pass_time(60)
    rig.network.leaders[LEADER.addr] = rig._accept
    rig.pass_time(6)
    assert len(rig.ends) == 1


def test_not_admitted(rig: Rig) -> None:
    """A host that is told that trying again is of no use rests for long."""
    rig.host.follow(LEADER)
    rig.pass_time(1)
    rig.say(Bye("no", retry=False))
    rig.pass_time(REST / 2)
    assert len(rig.ends) == 1
    rig.pass_time(REST / 2)
    assert len(rig.ends) == 2


def test_leader_falls_silent(rig: Rig) -> None:
    """A leader that gives no sign of life is left; one that does is not."""
    rig.joined()
    for _ in range(10):
        rig.pass_time(5)
        rig.say(Beat())
    assert len(rig.ends) == 1
    assert rig.end.beats >= 9
    rig.pass_time(22)
    assert len(rig.ends) == 2


def test_wakes_up_late(rig: Rig) -> None:
    """A host that stood still does not act on what it was told long ago."""
    end = rig.joined()
    end.transport.send(messages.encode(Submit(1, 7, [msgspec.Raw(canonical(job("a")))])))
    rig.clock.rightNow += 60
    rig.network.connections[-1][1].leader._deliver()
    rig.settle()
    assert rig.agent.jobs() == {}
    assert end.ended


def test_term_is_over(rig: Rig) -> None:
    """A leader of a lower term than the host has seen gets no report."""
    rig.highest = 8
    end = rig.joined()
    assert end.kinds() == ["Hello"]
    assert end.ended


def test_remembers_the_term(rig: Rig) -> None:
    """The term of the leader that lets the host in is given to the agent, to be kept."""
    terms: list[int] = []
    hold: Deferred[None] = Deferred()
    rig.agent.hold = hold.addCallback(lambda _: terms.append(rig.host.joined_term))
    rig.joined()
    assert rig.end.kinds()[1:] == ["Report", "Report"]
    hold.callback(None)
    assert terms == [7]


def test_term_can_not_be_remembered(rig: Rig) -> None:
    """That it can't be kept is no reason not to report."""
    rig.agent.hold = fail(JournalFailed("full"))
    assert rig.joined().kinds()[1:] == ["Report", "Report"]


def test_not_ready(rig: Rig) -> None:
    """A host that has not read its journal reports nothing, and comes again."""
    rig.agent.ready = False
    end = rig.joined()
    assert end.kinds() == ["Hello"]
    rig.agent.ready = True
    rig.pass_time(2)
    assert len(rig.ends) == 2


def test_leader_does_not_read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that takes nothing is left before too much waits for it."""
    monkeypatch.setattr(leader_outgoing, "MAX_QUEUED", 10)
    rig.network.window = 2
    rig.joined()
    rig.network.connections[-1][1].stall()
    rig.agent.accept([job(f"j{number}") for number in range(30)], 0)
    rig.pass_time(1)
    assert len(rig.ends) == 2
    rig.say(Welcome(7, 5.0))
    assert len(rig.end.jobs()) == 30


def test_bad_messages(rig: Rig) -> None:
    """What the host does not understand ends the session."""
    for data in (b"{", b'{"type":"hello"}', messages.encode(Welcome(7, 5)), messages.encode(Take(5, 7))):
        rig.joined()
        rig.end.transport.send(data)
        rig.settle()
        assert rig.end.ended
        rig.host.follow(None)
    rig.host.follow(LEADER)
    rig.pass_time(1)
    rig.submit(1, job("a"))
    assert rig.end.ended


def test_requests_in_each_other(rig: Rig) -> None:
    """A request that begins within another one is not understood."""
    end = rig.joined()
    rig.submit(1, job("a"), last=False)
    rig.submit(2, job("b"))
    assert end.ended
    assert rig.agent.jobs() == {}


def test_follows_another(rig: Rig) -> None:
    """With another leader the session with the last is ended; with none there is none."""
    old = rig.joined()
    rig.host.follow(None)
    rig.pass_time(5)
    assert (len(rig.ends), bool(old.ended), rig.host.joined_term) == (1, True, 0)
    rig.network.leaders["other:1"] = rig._accept
    rig.host.follow(Follow("other:1", 8))
    rig.pass_time(1)
    assert len(rig.ends) == 2


def test_stops(rig: Rig) -> None:
    """Stopped, nothing of it is left."""
    end = rig.joined()
    stopped: list[None] = []
    rig.host.stopService().addCallback(stopped.append)
    rig.settle()
    assert (stopped, bool(end.ended)) == ([None], True)
    rig.host.follow(Follow("other:1", 8))
    assert rig.clock.getDelayedCalls() == []


def test_drains(rig: Rig) -> None:
    """It says whether it drains and what its machine has as it comes, and each change after its report."""
    rig.agent.draining, rig.agent.resources = True, {"cpu": 1000}
    rig.host.follow(LEADER)
    rig.pass_time(1)
    hello = rig.end.said[0]
    assert isinstance(hello, messages.Hello)
    assert (hello.draining, hello.resources) == (True, {"cpu": 1000})
    rig.agent.draining = False
    rig.say(Welcome(7, 5.0))
    assert rig.end.kinds()[-2:] == ["Report", "Draining"]
    rig.agent.set_draining(True, 0)
    rig.settle()
    assert rig.end.said[-2:] == [messages.Draining(draining=False), messages.Draining(draining=True)]


def test_attributes(rig: Rig) -> None:
    """It says what is said of it and where it is reached as it comes, and each change after its report."""
    rig.agent.attributes = {"zone": "a"}
    rig.host._addr = lambda: "192.0.2.7:1113"
    rig.host.follow(LEADER)
    rig.pass_time(1)
    hello = rig.end.said[0]
    assert isinstance(hello, messages.Hello)
    assert (hello.attributes, hello.addr) == ({"zone": "a"}, "192.0.2.7:1113")
    rig.agent.set_attribute("zone", "b")
    rig.say(Welcome(7, 5.0))
    rig.agent.set_attribute("disk", "ssd")
    rig.settle()
    assert rig.end.said[-2:] == [
        messages.Attributes({"zone": "b"}),
        messages.Attributes({"zone": "b", "disk": "ssd"}),
    ]
    rig.host.follow(None)
    rig.settle()
    rig.agent.set_attribute("zone", "c")
    assert rig.end.said[-1] == messages.Attributes({"zone": "b", "disk": "ssd"})


def test_told_to_drain(rig: Rig) -> None:
    """What the leader says of that is answered when it is on disk, or is refused."""
    rig.joined()
    rig.say(messages.SetDraining(1, 7, draining=True))
    assert rig.end.said[-2:] == [messages.Draining(draining=True), messages.Accepted(1, [])]
    rig.agent.hold = fail(JournalFailed("full"))
    rig.say(messages.SetDraining(2, 7, draining=False))
    assert rig.end.said[-1] == messages.Refused(2, "journal_failed", ["full"])
    rig.agent.hold = fail(TookTooLong("no answer"))
    rig.say(messages.SetDraining(3, 7, draining=False))
    assert len(rig.end.said) == 6


def test_invited(rig: Rig) -> None:
    """When the leader wants this host as a candidate it is told to whom it concerns."""
    invited: list[bool] = []
    rig.host._invited = lambda: invited.append(True)
    rig.joined()
    rig.say(messages.Campaign())
    assert invited == [True]


# --- jobs between two sessions ------------------------------------------------


def test_reported_before_it_is_on_disk(rig: Rig) -> None:
    """A job that is being taken when the session breaks is in the next report."""
    rig.joined()
    hold: Deferred[None] = Deferred()
    rig.agent.hold = hold
    rig.submit(1, job("a"))
    rig.agent.hold = None
    rig.network.connections[-1][1].cut()
    rig.pass_time(1)
    rig.say(Welcome(7, 5.0))
    assert rig.end.jobs() == ["a"]
    hold.callback(None)
    rig.settle()
    assert rig.end.kinds() == ["Hello", "Report", "Report"]


def test_reported_and_then_not_taken(rig: Rig) -> None:
    """The same job, if it is not taken after all, is taken back."""
    rig.joined()
    hold: Deferred[None] = Deferred()
    rig.agent.hold = hold
    rig.submit(1, job("a"))
    rig.agent.hold = None
    rig.network.connections[-1][1].cut()
    rig.pass_time(1)
    rig.say(Welcome(7, 5.0))
    hold.errback(JournalFailed("full"))
    rig.settle()
    assert rig.end.said[-1] == messages.Ended("a", taken=False)


def test_known_from_elsewhere(rig: Rig) -> None:
    """A job that is there already and is refused with other content stays."""
    rig.agent.accept([job("a")], 0)
    rig.joined()
    hold: Deferred[None] = Deferred()
    rig.agent.hold = hold
    rig.submit(1, job("a", "other"))
    rig.agent.hold = None
    rig.network.connections[-1][1].cut()
    rig.pass_time(1)
    rig.say(Welcome(7, 5.0))
    hold.errback(JobConflict("a", "is known"))
    rig.settle()
    assert rig.end.jobs() == ["a"]
    assert rig.end.kinds()[-1] == "Report"


def test_same_job_twice_on_the_way(rig: Rig) -> None:
    """A job that is sent twice is known when both requests are answered."""
    rig.joined()
    holds: list[Deferred[None]] = [Deferred(), Deferred()]
    for number, hold in enumerate(holds):
        rig.agent.hold = hold
        rig.submit(number, job("a"))
    rig.agent.hold = None
    for hold in holds:
        assert "a" in rig.host.taking.on_the_way
        hold.callback(None)
    assert "a" not in rig.host.taking.on_the_way
