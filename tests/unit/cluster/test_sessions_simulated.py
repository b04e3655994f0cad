"""Agents and leaders over connections that break, stall and are slow: whatever happens, promises are kept.

Each seed is one history of some minutes. A scheduler submits batches, repeats those it got no answer
to, and does what schedulers do with an answer: a job that was refused may go to another host.
"""

from __future__ import annotations

import random
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from flynnhost.agent.foreseeing import foresee
from flynnhost.agent.leader_session import LeaderSession
from flynnhost.agent.settings import HostSettings
from flynnhost.cluster.local import LocalHost
from flynnhost.errors import ContainerNotRunning, JournalFailed, TookTooLong
from flynnhost.model import HostEvent, Job, Placement
from flynnhost.testing.containers import FakeContainers
from flynnhost.testing.journal import MemoryJournal
from flynnhost.testing.process_clock import ProcessClock
from flynnhost.testing.session_rig import Lead, SessionRig
from flynnhost.testing.world import World, a_job
from tests.conftest import LoggedFailures

HOSTS = ("h1", "h2", "h3")


@define(eq=False, repr=False)
class Sim(SessionRig):
    """Three hosts, of which one leads or none of them, and a scheduler.

    :ivar clocks: of the hosts' processes, which can be made to stand still.
    :ivar reported: the hosts that have reported to each leader, with its term.
    :ivar acknowledged: where each job is of which the scheduler was told that it is taken.
    :ivar tied: where each job may be that was sent and not refused.
    :ivar asked: all jobs that were ever asked for.
    :ivar words: the chance of what is said of hosts, which changes nothing else of a history.
    :ivar said: what was last said of each host that was acknowledged: a number that grows.
    """

    chance: random.Random = field(factory=random.Random)
    slowness: float = 0.0
    worlds: dict[str, World] = field(factory=dict)
    sessions: dict[str, LeaderSession] = field(factory=dict)
    leaders: list[Lead] = field(factory=list)
    acknowledged: dict[str, str] = field(factory=dict)
    asked: dict[str, Job] = field(factory=dict)
    tied: dict[str, str] = field(factory=dict)
    clocks: dict[str, ProcessClock] = field(factory=dict)
    leading: dict[int, tuple[str, LocalHost]] = field(factory=dict)
    reported: set[tuple[int, str]] = field(factory=set)
    dead: set[int] = field(factory=set)
    paused: set[str] = field(factory=set)
    boots: int = 0
    jobs_made: int = 0
    words: random.Random = field(factory=lambda: random.Random(1))
    said: dict[str, int] = field(factory=dict)
    said_last: int = 0
    answers: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.delay = lambda: self.chance.random() * self.slowness
        SessionRig.__attrs_post_init__(self)
        self.clock.advance(1_000_000)
        self.network.window = 4
        for name in HOSTS:
            world = World(HostSettings(name), self.clock)
            clock = world.agent_clock = self.clocks[name] = ProcessClock(self.clock)
            world.containers, world.journal = FakeContainers(self.clock), MemoryJournal(clock)
            self.worlds[name] = world
            self.start_host(name)
        self.elect()

    @property
    def leader(self) -> Lead:
        return self.leaders[-1]

    # --- what can happen ------------------------------------------------------

    def start_host(self, name: str) -> None:
        world = self.worlds[name]
        agent = world.start()
        self.boots += 1
        self.sessions[name] = self.session(
            agent, lambda: agent.highest_term, boot=f"boot{self.boots}", clock=self.clocks[name]
        )
        if self.leaders:
            self.follow(name)

    def follow(self, name: str) -> None:
        """A host hears who leads. The leader reaches its own host without a session."""
        own = self.own_host == name
        self.sessions[name].follow(None if own else self.leader.record)

    @property
    def own_host(self) -> str:
        """The host of the leader; empty when it is none of the three."""
        return self.leading[self.leader.record.term][0] if self.leader.record.term in self.leading else ""

    def kill_host(self) -> None:
        """A process ends at once, and is started again; if it led, another one leads then."""
        name = self.chance.choice(HOSTS)
        for connection in self.network.of(name):
            connection.cut()
        self.sessions[name].stopService()
        led = self.own_host == name
        if led:
            self.dead.add(self.leader.record.term)
            for _, connection in self.network.connections:
                connection.cut()
            self.end(self.leader)
        self.worlds[name].kill()
        back_before = self.chance.random() < 0.5
        if led and not back_before:
            self.elect(missing=name)
        self.pass_time(self.chance.random() * 3)
        self.start_host(name)
        if led and back_before:
            self.elect()

    def elect(self, missing: str = "") -> None:
        """A leader begins, while the last one may go on for a while without knowing.

        :param missing: a host that is not there, or stands still.
        """
        old = self.leaders[-1] if self.leaders else None
        term = len(self.leaders) + 1
        there = [name for name in HOSTS if name != missing]
        lead = self.begin(self.chance.choice(["", *there]), term, there)
        if missing:
            lead.leader.miss_host(missing, f"instance of {missing}")
        over = old is None or old.record.term in self.dead
        self.chance.shuffle(there)
        for name in there:
            self.follow(name)
            if old is not None and not over:
                self.submit(old, HOSTS)
                self.pass_time(self.chance.random() * 0.5)
        if old is not None and not over and (not missing or self.leading.get(term - 1, ("",))[0] != missing):
            old.sure = False
            self.submit(old, HOSTS)
            self.end(old)
        self.repeat_soon()

    def repeat_soon(self) -> None:
        """Schedulers try again as soon as another leads."""
        for _ in range(3):
            self.repeat()
            self.pass_time(self.chance.random())

    def begin(self, name: str, term: int, expected: list[str]) -> Lead:
        """One of the hosts leads, or a process that is none of them."""
        lead = self.lead("leader", term, self.clocks.get(name), expected=expected)
        self.leaders.append(lead)

        def told(_: str, event: HostEvent) -> None:
            member = lead.leader._membership._members.get(event.host_id)
            if member is not None and member.link is not None:
                self.reported.add((term, event.host_id))

        lead.leader.events.subscribe(told)
        if name:
            agent, taking = self.worlds[name].agent, self.sessions[name].taking
            foreseeing = partial(foresee, agent, lambda: agent.highest_term)
            local = LocalHost(agent, lead.leader, foreseeing, taking.on_the_way, taking.take)
            self.leading[term] = name, local
            local.startService()
        return lead

    def end(self, lead: Lead) -> None:
        """A leader stops."""
        if lead.record.term in self.leading:
            self.leading[lead.record.term][1].stopService()
        lead.leader.stopService()

    def pause_host(self) -> None:
        """A process stands still. If it leads another one is elected, of which it learns when it goes on."""
        name = self.chance.choice(HOSTS)
        led = self.own_host == name
        old = self.leader
        self.submit(old, HOSTS)
        self.pass_time(self.chance.random() * 0.1)
        self.clocks[name].stop()
        inbound = [connection.leader for connection in self.network.of(name)]
        if led:
            inbound += [connection.host for _, connection in self.network.connections]
        for end in inbound:
            end.stalled = True
        if not led:
            self.submit(old, (name,))
        self.pass_time(self.chance.choice([1, 6, 14, 20]))
        elected = led or self.chance.random() < 0.3
        if elected:
            self.elect(missing=name)
            self.repeat_soon()
            self.pass_time(self.chance.choice([0, 10]))
        if led:
            old.sure = False
        news = [self.clocks[name].go_on, *[end.release for end in inbound]]
        if elected:
            news.append(partial(self.follow, name))
        self.chance.shuffle(news)
        for each in news:
            each()
        if led:
            self.submit(old, HOSTS)
            self.end(old)

    def cut(self) -> None:
        self.chance.choice(self.network.connections)[1].cut()

    def stall(self) -> None:
        """Nothing arrives for a while, which may be noticed or not."""
        name, connection = self.chance.choice(self.network.connections[-3:])
        connection.stall()
        self.submit(self.leader, (name,))
        self.pass_time(self.chance.choice([1, 20]))
        connection.release()

    def slow_disk(self) -> None:
        world = self.worlds[self.chance.choice(HOSTS)]
        world.journal.delay = self.chance.choice([0, 0.1, 2, 40])

    def slow_network(self) -> None:
        self.slowness = self.chance.choice([0, 0.01, 0.2])

    def full_disk(self) -> None:
        world = self.worlds[self.chance.choice(HOSTS)]
        world.journal.trouble = self.chance.choice(["", "full"])

    def unreachable(self) -> None:
        name = self.chance.choice(HOSTS)
        self.network.unreachable ^= {name}

    def job_ends(self) -> None:
        world = self.worlds[self.chance.choice(HOSTS)]
        running = [job.id for job in world.agent.jobs().values() if job.status.name == "RUNNING"]
        if running:
            # The host may not have written down yet that it has ended already.
            with suppress(ContainerNotRunning):
                world.containers.exit(f"flynn-{self.chance.choice(running)}", 0)

    def put_directly(self) -> None:
        """Somebody puts a job on a host, past the leader."""
        name = self.chance.choice(HOSTS)
        job = self.new_job()
        self.worlds[name].forget(self.worlds[name].agent.accept([job], 0))

    def say_something(self) -> None:
        """Somebody says something of a host at run time, or takes it back."""
        name = self.words.choice(HOSTS)
        agent = self.worlds[name].agent
        self.said_last += 1
        number = self.said_last

        def acknowledged(_: None) -> None:
            self.said[name] = number

        if self.words.random() < 0.7:
            agent.set_attribute("number", str(number)).addCallbacks(acknowledged, lambda _: None)
        else:
            agent.set_attribute("now and then", str(number)).addBoth(lambda _: None)
            agent.remove_attribute("now and then").addBoth(lambda _: None)

    def schedule(self) -> None:
        self.submit(self.leader, self.chance.sample(HOSTS, self.chance.randint(1, 3)))

    def repeat(self) -> None:
        """A job that is unknown or has ended is asked for again, where it was or elsewhere."""
        jobs = [job_id for job_id in self.asked if job_id not in self.acknowledged]
        if self.chance.random() < 0.4:
            jobs = [
                job.id for world in self.worlds.values() for job in world.agent.jobs().values() if job.ended
            ]
        jobs = [job_id for job_id in jobs if job_id in self.asked]
        if self.chance.random() < 0.7:
            jobs = jobs[-10:]  # it does not wait for long
        if jobs:
            job_id = self.chance.choice(jobs)
            tied = self.acknowledged.get(job_id) or self.tied.get(job_id)
            anywhere = self.chance.choice(HOSTS)
            where = anywhere if tied is None or self.guarded(tied) else tied
            self.send(self.leader, {where: [self.asked[job_id]]})

    def guarded(self, name: str) -> bool:
        """Whether the leader must see to it that a job, maybe sent to a host, goes to no other one.

        It does not know of jobs on hosts that have not reported since it leads.
        """
        return (self.leader.record.term, name) in self.reported

    # --- the scheduler --------------------------------------------------------

    def new_job(self) -> Job:
        self.jobs_made += 1
        return a_job(f"j{self.jobs_made}")

    def submit(self, lead: Lead, hosts: Any) -> None:
        batch = {name: [self.new_job() for _ in range(self.chance.randint(1, 3))] for name in hosts}
        self.asked.update({job.id: job for jobs in batch.values() for job in jobs})
        self.send(lead, batch)

    def send(self, lead: Lead, batch: dict[str, list[Job]]) -> None:
        def answered(placements: list[Placement]) -> None:
            self.answers.append("ok")
            for placement in placements:
                # Whatever was acknowledged before is on the host that it was said to be on.
                first = self.acknowledged.setdefault(placement.job_id, placement.host_id)
                assert first == placement.host_id, placement

        where = {job.id: name for name, jobs in batch.items() for job in jobs}
        new = {job_id: name for job_id, name in where.items() if job_id not in self.tied}
        self.tied.update(new)

        def failed(failure: Any) -> None:
            self.answers.append(type(failure.value).__name__)
            assert not failure.check(AssertionError), failure
            if failure.check(TookTooLong):
                for job_id, outcome in failure.value.outcomes:
                    if outcome == "accepted" and lead.sure:
                        assert self.acknowledged.setdefault(job_id, where[job_id]) == where[job_id]
                    if outcome == "refused" and job_id in new:
                        del self.tied[job_id]
            else:
                for job_id in new:
                    del self.tied[job_id]

        self.answer_of(lead, batch).addCallbacks(answered, failed)

    def answer_of(self, lead: Lead, batch: dict[str, list[Job]]) -> Deferred[list[Placement]]:
        """What the scheduler is answered, which is nothing if the leader's process ends before."""
        answer: Deferred[list[Placement]] = Deferred()

        def told(result: list[Placement] | Failure) -> None:
            if lead.record.term not in self.dead:
                answer.callback(result)

        lead.leader.submit(batch).addBoth(told)
        return answer

    # --- the history ----------------------------------------------------------

    def live(self, steps: int) -> None:
        actions: list[Any] = [
            *[self.schedule] * 12,
            *[self.repeat] * 6,
            *[self.mend] * 3,
            *[self.job_ends] * 4,
            self.put_directly,
            self.cut,
            self.cut,
            self.stall,
            self.kill_host,
            self.pause_host,
            self.elect,
            self.slow_disk,
            self.slow_network,
            self.full_disk,
            self.unreachable,
        ]
        for _ in range(steps):
            self.chance.choice(actions)()
            if self.words.random() < 0.3:
                self.say_something()
            self.pass_time(self.chance.random() * 2)

    def mend(self) -> None:
        """Everything that was broken works again."""
        self.slowness = 0
        self.network.unreachable.clear()
        for world in self.worlds.values():
            world.journal.delay, world.journal.trouble = 0, ""
        for _, connection in self.network.connections:
            connection.release()
        self.pass_time(3)

    def heal(self) -> None:
        self.mend()
        self.pass_time(130, step=0.25)

    def check(self) -> None:
        """Nothing acknowledged is lost, no job ran twice, and the leader knows what the hosts know."""
        truth = {
            name: sorted(job.id for job in world.agent.jobs().values() if not job.ended)
            for name, world in self.worlds.items()
        }
        assert self.leader.jobs() == truth
        assert self.leader.leader.complete()
        assert not any(host.down for host in self.leader.leader.hosts())
        for job_id, name in self.acknowledged.items():
            assert job_id in self.worlds[name].agent.jobs(), f"{job_id} is not on {name}"
            starts = [world.starts(job_id) for world in self.worlds.values()]
            assert sum(starts) <= 1, f"{job_id} was started {starts}"
            assert all(
                other == name or job_id not in world.agent.jobs() for other, world in self.worlds.items()
            ), job_id
        known = {host.id: dict(host.attributes) for host in self.leader.leader.hosts()}
        true = {name: dict(world.agent.attributes) for name, world in self.worlds.items()}
        assert known == true
        forgotten = {name for name, number in self.said.items() if int(true[name].get("number", 0)) < number}
        assert (forgotten, bool(self.said)) == (set(), True)
        assert self.leader.leader._state._held == {}
        assert dict(self.leader.leader._batches._unacknowledged) == {}


@pytest.mark.parametrize("seed", range(25))
def test_promises_are_kept(seed: int, logged_failures: LoggedFailures) -> None:
    sim = Sim(chance=random.Random(seed))
    sim.pass_time(2)
    sim.schedule()
    sim.pass_time(1)
    assert sim.acknowledged
    sim.live(150)
    sim.heal()
    sim.check()
    # And it is of use still.
    before = len(sim.acknowledged)
    sim.submit(sim.leader, HOSTS)
    sim.pass_time(2)
    assert len(sim.acknowledged) > before
    logged_failures.flush(JournalFailed)  # that a start can't be written down is logged
