"""A leader and agents that speak with it over connections in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from flynnhost.agent.leader_session import LeaderSession
from flynnhost.cluster.leader import Leader
from flynnhost.interfaces import IAgent
from flynnhost.model import HostEvent, Job
from flynnhost.testing.session_wire import Network


@frozen
class Follow:
    """Who leads, for ``LeaderSession.follow``."""

    addr: str
    term: int


@define(eq=False)
class Lead:
    """A leader that can be connected to.

    :ivar sure: what the leader is told when it asks whether it leads.
    :ivar told: all its events.
    """

    leader: Leader
    record: Follow
    sure: bool = True
    told: list[HostEvent] = field(factory=list)

    def submit(self, batch: dict[str, Sequence[Job]]) -> list[Any]:
        """Submit a batch; what comes of it, when it does."""
        results: list[Any] = []
        submitted: Deferred[Any] = self.leader.submit(batch)
        submitted.addBoth(lambda got: results.append(got.value if isinstance(got, Failure) else got))
        return results

    def jobs(self) -> dict[str, list[str]]:
        """The IDs of all jobs by host."""
        return {host.id: sorted(job.id for job in host.jobs) for host in self.leader.hosts()}


@define(eq=False)
class SessionRig:
    """All that is needed, on one clock."""

    clock: Clock = field(factory=Clock)
    delay: Callable[[], float] = lambda: 0.0
    network: Network = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.network = Network(self.clock, self.delay)

    def lead(self, name: str, term: int, clock: IReactorTime | None = None, **arguments: Any) -> Lead:
        """Have a leader begin, to be reached as its name and term.

        :param clock: of its process, if it has one of its own.
        """
        addr = f"{name}.{term}:1113"
        now = datetime(2020, 1, 1, tzinfo=UTC)
        leads: list[Lead] = []
        leader = Leader(
            clock or self.clock,
            lambda: now,
            term,
            name,
            addr,
            lambda: not leads or leads[0].sure,
            **arguments,
        )
        leads.append(Lead(leader, Follow(addr, term)))
        leader.events.subscribe(lambda _, event: leads[0].told.append(event))
        leader.startService()
        self.network.leaders[addr] = leader.open_session
        return leads[0]

    def session(
        self,
        agent: IAgent,
        highest_term: Callable[[], int],
        instance: str = "",
        boot: str = "boot1",
        clock: IReactorTime | None = None,
    ) -> LeaderSession:
        """An agent's session, which follows nobody yet.

        :param clock: of its process, if it has one of its own.
        """
        name = agent.host_id
        session = LeaderSession(
            clock or self.clock,
            agent,
            highest_term,
            self.network.connector(name),
            instance or f"instance of {name}",
            boot,
            lambda: 0.5,
        )
        session.startService()
        return session

    def pass_time(self, seconds: float, step: float = 0.1) -> None:
        """Let time pass."""
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step
        self.clock.pump([0] * 20)
