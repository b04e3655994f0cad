"""The leader: commits jobs to hosts, and tells of the whole cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from attrs import define, field
from twisted.application.service import Service
from twisted.internet import defer
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from flynnhost.background import shielded
from flynnhost.cluster.arrival import Arrival
from flynnhost.cluster.batches import ACKNOWLEDGE_WITHIN, Batches
from flynnhost.cluster.foreign import ForeignHosts
from flynnhost.cluster.membership import GRACE, Membership
from flynnhost.cluster.past import PastJobs
from flynnhost.cluster.sessions import Sessions
from flynnhost.cluster.state import ClusterState
from flynnhost.cluster.stored import Placed, placed_of
from flynnhost.errors import NoLeader, NotReady, TookTooLong
from flynnhost.feed import Feed
from flynnhost.interfaces import (
    HostFeed,
    ICluster,
    IClusterHosts,
    IHostLink,
    ISessionTransport,
    ISessionUser,
)
from flynnhost.model import Host, HostEvent, Job, Placement


def _certain() -> bool:
    return True


def _nobody(term: int) -> None:
    """Who leads without an election has nobody to tell that it was outranked."""


@implementer(ICluster, IClusterHosts)
@define(eq=False)
class Leader(Service):
    """The ``ICluster`` of one term, from the election to the end of the leadership.

    :param host_id: the host that leads.
    :param addr: where its HTTP API is reached, as ``HOST:PORT``.
    :param now: tells the time of day.
    :param confirmed: whether it is certain that this host leads; asked before every act.
    :param expected: the hosts that are to report before anything is placed; None if ``expect``
        will tell.
    :param grace: seconds for which a host that is lost, or has not reported yet, is waited for.
    :param outranked: told when a host has heard a higher term, with that.
    """

    _clock: IReactorTime
    _now: Callable[[], datetime]
    term: int
    _host_id: str
    addr: str
    _confirmed: Callable[[], bool] = _certain
    _expected: Collection[str] | None = ()
    _grace: float = GRACE
    _outranked: Callable[[int], None] = _nobody
    events: HostFeed = field(init=False)
    _feed: Feed[HostEvent] = field(init=False)
    _since: datetime = field(init=False)
    _state: ClusterState = field(init=False)
    _membership: Membership = field(init=False)
    _batches: Batches = field(init=False)
    _sessions: Sessions = field(init=False)
    _foreign: ForeignHosts = field(init=False)

    def __attrs_post_init__(self) -> None:
        # A host that was deposed for a moment leads again with the same term, and counts events anew.
        self.events = self._feed = Feed(f"t{self.term}.{self._clock.seconds() * 1000:.0f}")
        self._since = self._now()
        self._state = ClusterState(PastJobs(self._clock.seconds))
        self._membership = Membership(self._clock, self._state, self._publish, self._grace, self._expected)
        self._batches = Batches(
            self._clock, self.term, self._state, self._membership, self._check, self._confirmed
        )
        self._sessions = Sessions(
            self._clock, self.term, self._state, self._membership, self._confirmed, outranked=self._outranked
        )
        self._foreign = ForeignHosts(self._state, self._membership)

    def startService(self) -> None:
        """Begin to wait for hosts."""
        super().startService()
        self._membership.start()

    def stopService(self) -> Deferred[None]:
        """Take no more batches, and tell no more events. Fires when all sessions have ended."""
        super().stopService()
        self._membership.stop()
        self._feed.close()
        return self._sessions.stop()

    # --- hosts ---------------------------------------------------------------

    def expect(self, hosts: Mapping[str, str]) -> None:
        """Say which hosts there are, all of which must report before anything is placed.

        :param hosts: by ID what tells each from others of that ID; empty if that is not known. It may
            change until this is called again.
        """
        self._membership.expect(hosts)

    def waits_for(self, host_id: str) -> bool:
        """Whether this host is to report before anything is placed, and has not."""
        return self._membership.waits_for(host_id)

    def miss_host(self, host_id: str, instance: str, addr: str = "") -> None:
        """Wait for a host that an earlier leader had and that is not there: it is down, not gone."""
        self._membership.missed(host_id, instance, addr)

    def invite(self, host_id: str) -> bool:
        """Ask a host to become a candidate, if there is a way to. Says whether there is."""
        return self._sessions.invite(host_id)

    def add_host(self, host: Host, link: IHostLink, ended: Collection[str] = ()) -> None:
        """Take in a host with the jobs it has.

        :param link: the way to hand it jobs.
        :param ended: the IDs of its jobs that have ended.
        """
        jobs = placed_of(host.id, host.jobs)
        arrival = Arrival(
            host.id,
            host.attributes,
            jobs,
            ended=ended,
            draining=host.draining,
            resources=host.resources,
            addr=host.addr,
        )
        self._membership.join(arrival, link)

    def remove_host(self, host_id: str) -> None:
        """Take a host out with its jobs, if it is there."""
        self._membership.remove(host_id)

    def host_draining(self, host_id: str, draining: bool) -> None:
        """Take note of a host that is to get no more jobs, or some again."""
        self._membership.set_draining(host_id, draining)

    def host_attributes(self, host_id: str, attributes: Mapping[str, str]) -> None:
        """Take note of what is said of a host now."""
        self._state.set_attributes(host_id, attributes)

    def job_reported(self, host_id: str, job: Job) -> None:
        """Take note of a job that a host has, whoever sent it there."""
        self._state.report(Placed.of(host_id, job))

    def job_ended(self, host_id: str, job_id: str, *, was_there: bool = True) -> None:
        """Take a job out of the state.

        :param was_there: whether the host has had it at all.
        """
        self._state.remove_job(host_id, job_id, was_there=was_there)

    # --- IClusterHosts -------------------------------------------------------

    def host(self, host_id: str) -> Host:
        """See ``IClusterHosts``."""
        return self._state.host(host_id)

    def remove_job(self, host_id: str, job_id: str) -> None:
        """See ``IClusterHosts``."""
        self._state.remove_job(host_id, job_id)

    def set_draining(self, host_id: str, draining: bool) -> Deferred[None]:
        """See ``IClusterHosts``. The host goes on with it, whether the caller waits or not."""

        def late(failure: Failure) -> NoReturn:
            failure.trap(defer.TimeoutError)
            raise TookTooLong(f"host {host_id} has not answered within {ACKNOWLEDGE_WITHIN:g} s")

        def tell() -> Deferred[None]:
            self._check_certain()
            return shielded(self._membership.command_link(host_id).set_draining(draining, self.term))

        return maybeDeferred(tell).addTimeout(ACKNOWLEDGE_WITHIN, self._clock).addErrback(late)

    def open_session(self, transport: ISessionTransport) -> ISessionUser:
        """See ``IClusterHosts``."""
        self._check_certain()
        return self._sessions.open(transport)

    def register(self, host: Host, jobs: Callable[[Sequence[Job]], None]) -> Callable[[], None]:
        """See ``IClusterHosts``."""
        self._check_certain()
        return self._foreign.register(host, jobs)

    # --- ICluster ------------------------------------------------------------

    def hosts(self) -> Sequence[Host]:
        """See ``ICluster``."""
        return self._state.hosts()

    def complete(self) -> bool:
        """See ``ICluster``."""
        return self._membership.complete and self._confirmed()

    def leader(self) -> Mapping[str, Any]:
        """See ``ICluster``."""
        return {"id": self._host_id, "addr": self.addr, "term": self.term, "since": self._since}

    def submit(self, batch: Mapping[str, Sequence[Job]]) -> Deferred[list[Placement]]:
        """See ``ICluster``. Goes on to the end, whether the caller waits or not."""
        return shielded(Deferred.fromCoroutine(self._batches.submit(batch)))

    def _check(self) -> None:
        self._check_certain()
        if self._membership.recovering:
            raise NotReady(f"the leader is new: {self._membership.recovering}")

    def _check_certain(self) -> None:
        if not self.running:
            raise NotReady("this host is giving up the leadership")
        if not self._confirmed():
            raise NoLeader

    def _publish(self, event: HostEvent) -> None:
        self._feed.publish(event.host_id, event)
