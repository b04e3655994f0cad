"""Agents and leaders over connections that break, stall and are slow: whatever happens, promises are kept.

Each seed is one history of some minutes. A scheduler submits batches, repeats those it got no answer
to, and does what schedulers do with an answer: a job that was refused may go to another host.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest
from attrs import define, field

from flynnhost.agent.leader_session import LeaderSession
from flynnhost.agent.settings import HostSettings
from flynnhost.errors import ContainerNotRunning, JournalFailed, TookTooLong
from flynnhost.model import Job, Placement
from flynnhost.testing.containers import FakeContainers
from flynnhost.testing.journal import MemoryJournal
from flynnhost.testing.session_rig import Lead, SessionRig
from flynnhost.testing.world import World, a_job
from tests.conftest import LoggedFailures

HOSTS = ("h1", "h2", "h3")


@define(eq=False)
class Sim(SessionRig):
    """Three hosts, a leader, and a scheduler.

    :ivar acknowledged: where each job is of which the scheduler was told that it is taken.
    :ivar tied: where each job may be that was sent and not refused.
    :ivar asked: all jobs that were ever asked for.
    """

    chance: random.Random = field(factory=random.Random)
    slowness: float = 0.0
    worlds: dict[str, World] = field(factory=dict)
    sessions: dict[str, LeaderSession] = field(factory=dict)
    leaders: list[Lead] = field(factory=list)
    acknowledged: dict[str, str] = field(factory=dict)
    asked: dict[str, Job] = field(factory=dict)
    tied: dict[str, str] = field(factory=dict)
    boots: int = 0
    jobs_made: int = 0
    answers: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.delay = lambda: self.chance.random() * self.slowness
        SessionRig.__attrs_post_init__(self)
        self.clock.advance(1_000_000)
        self.network.window = 4
        for name in HOSTS:
            world = World(HostSettings(name), self.clock)
            world.containers, world.journal = FakeContainers(self.clock), MemoryJournal(self.clock)
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
        self.sessions[name] = self.session(agent, lambda: agent.highest_term, boot=f"boot{self.boots}")
        if self.leaders:
            self.sessions[name].follow(self.leader.record)

    def kill_host(self) -> None:
        """A process ends at once, and is started again."""
        name = self.chance.choice(HOSTS)
        for connection in self.network.of(name):
            connection.cut()
        self.sessions[name].stopService()
        self.worlds[name].kill()
        self.pass_time(self.chance.random() * 3)
        self.start_host(name)

    def elect(self) -> None:
        """A leader begins, while the last one may go on for a while without knowing."""
        old = self.leaders[-1] if self.leaders else None
        self.leaders.append(self.lead("leader", len(self.leaders) + 1, expected=HOSTS))
        order = list(HOSTS)
        self.chance.shuffle(order)
        for name in order:
            self.sessions[name].follow(self.leader.record)
            if old is not None:
                self.submit(old, HOSTS)
                self.pass_time(self.chance.random() * 0.5)
        if old is not None:
            old.sure = False
            self.submit(old, HOSTS)
            old.leader.stopService()

    def cut(self) -> None:
        self.chance.choice(self.network.connections)[1].cut()

    def stall(self) -> None:
        """Nothing arrives for a while, which may be noticed or not."""
        name, connection = self.network.connections[-1 - self.chance.randrange(3)]
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
        return ("add", name) in [(event.kind.value, event.host_id) for event in self.leader.told]

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

        lead.leader.submit(batch).addCallbacks(answered, failed)

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
            self.elect,
            self.slow_disk,
            self.slow_network,
            self.full_disk,
            self.unreachable,
        ]
        for _ in range(steps):
            self.chance.choice(actions)()
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
        """No acknowledged job is lost, none ran twice, and the leader knows what the hosts know."""
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
