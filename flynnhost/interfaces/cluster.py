"""The cluster, as its leader knows it, and who leads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from flynnhost.encoded import EncodedJobs
from flynnhost.errors import NoLeader
from flynnhost.interfaces.sessions import ISessionTransport, ISessionUser
from flynnhost.model import Host, Job, JobStatus, Placement


@frozen
class Part:
    """One host's part of a batch."""

    jobs: EncodedJobs

    @property
    def size(self) -> int:
        """How many bytes the jobs are."""
        return sum(map(len, self.jobs.encoded()))


class IPrepared(Protocol):
    """A part that a host has looked at and could take."""

    def submit(self) -> Deferred[list[JobStatus]]:
        """Have the host take it; see ``IHostLink.submit``."""

    def drop(self) -> None:
        """Have the host forget it."""


class IHostLink(Protocol):
    """The leader's way to one host."""

    def submit(self, part: Part, term: int) -> Deferred[list[JobStatus]]:
        """Hand over jobs. Fires when the host has them on disk, with where each of them is;
        fails like ``IAgent.accept``.
        """

    def prepare(self, part: Part, term: int) -> Deferred[IPrepared]:
        """Ask whether the host could take these jobs, which changes nothing. Fires when it could;
        fails like ``IAgent.accept``.
        """

    def set_draining(self, draining: bool, term: int) -> Deferred[None]:
        """Have the host get no more jobs, or some again; see ``IAgent.set_draining``.

        :raises InvalidField: when it is a host that can't be told.
        """


class ICluster(Interface):
    """The cluster, as its present leader knows it.

    Everything raises or fails with ``NoLeader`` when nobody leads.
    """

    events: Any = Attribute("IFeed[HostEvent]; the key is the host's ID")

    def hosts() -> Sequence[Host]:
        """All hosts with their jobs."""

    def complete() -> bool:
        """Whether every host that is known of has reported."""

    def submit(batch: Mapping[str, Sequence[Job]]) -> Deferred[list[Placement]]:
        """Commit jobs to hosts, all or none. Fires when every host concerned has its jobs on disk.

        :raises InvalidField: when a host can't honour a job; the path begins ``HOST[INDEX].``.
        :raises UnknownHost: when there is no such host.
        :raises JobConflict: when an ID is taken by other content or on another host.
        :raises NotReady: when a host can't take jobs now.
        :raises TookTooLong: when a host did not acknowledge in time.
        """

    def leader() -> Mapping[str, Any]:
        """Who leads: ``id``, ``addr``, ``term``, ``since``."""


class IClusterHosts(Interface):
    """The leader, as hosts see it that join the cluster, and those who ask for a single one.

    Everything raises ``NoLeader`` when nobody leads here.
    """

    def host(host_id: str) -> Host:
        """One host.

        :raises UnknownHost: when there is no such host.
        """

    def set_draining(host_id: str, draining: bool) -> Deferred[None]:
        """Place no more jobs on a host, or some again. Fires when the host has that on disk.

        :raises UnknownHost: when there is no such host.
        :raises InvalidField: when it is a host that can't be told.
        :raises NotReady: when it can't be told now.
        :raises TookTooLong: when it did not answer in time.
        """

    def remove_job(host_id: str, job_id: str) -> None:
        """Take a job out of what is known of the cluster, if it is there; it is not stopped."""

    def open_session(transport: ISessionTransport) -> ISessionUser:
        """A host has connected. What is returned takes all it says."""

    def register(host: Host, jobs: Callable[[Sequence[Job]], None]) -> Callable[[], None]:
        """Take in a host that says nothing more once it said what it is and has.

        :param jobs: called with jobs for it, which count as accepted when that returns.
        :return: to be called when the host has gone.
        :raises InvalidField: when it is no host.
        :raises DuplicateHost: when a host of that ID is there.
        """


class ILeaderRecord(Protocol):
    """A host that leads, as is written for all hosts."""

    @property
    def id(self) -> str:
        """Its ID."""

    @property
    def addr(self) -> str:
        """Where its HTTP API is reached, as ``HOST:PORT``."""

    @property
    def term(self) -> int:
        """Its term."""

    @property
    def since(self) -> str:
        """When it was elected, as RFC 3339 text; may be empty."""


@frozen
class Following:
    """What a host knows of whoever leads, itself or another.

    :param leader: gives the record of who leads, as far as this host knows; None when nobody does.
    :param current: gives whether the record is as it is now, not as it was when it was last seen.
    :param joined_term: gives the term of the leader that has let this host in, while their session
        goes on; 0 for none.
    :param listen: has somebody called with each new record, or None, from then on.
    """

    leader: Callable[[], ILeaderRecord | None]
    current: Callable[[], bool]
    joined_term: Callable[[], int]
    listen: Callable[[Callable[[ILeaderRecord | None], None]], None]

    def other_than(self, host_id: str) -> ILeaderRecord:
        """The record of another host, which leads.

        :param host_id: of a host that does not lead, whatever the record says.
        :raises NoLeader: when there is none.
        """
        record = self.leader()
        if record is None:
            raise NoLeader
        if record.id == host_id:
            raise NoLeader(f"host {host_id} does not lead yet, or leads no longer")
        return record


class ILeadership(Protocol):
    """Is told by an election whether this host leads."""

    def elected(self, term: int) -> Deferred[None]:
        """This host leads from now on, with this term. Fires when its leadership runs, or is over again.

        :raises CannotLead: (as the Deferred's failure) when it can't run. The host is to be deposed then.
        """

    def deposed(self) -> Deferred[None]:
        """This host leads no longer. Fires when nothing of its leadership runs any more."""
