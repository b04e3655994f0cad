"""What a host does as one of several: etcd says that it is there, elects, and names who leads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from attrs import frozen

from flynnhost.agent.agent import Agent
from flynnhost.agent.leader_session import LeaderSession
from flynnhost.cluster.etcd_election import MAX_CANDIDATES, EtcdElection
from flynnhost.cluster.following import LeaderFollower
from flynnhost.cluster.leader import Leader
from flynnhost.cluster.presence import Presence
from flynnhost.cluster.records import HostRecord, Keys, LeaderRecord
from flynnhost.cluster.registered import RegisteredHosts
from flynnhost.cluster.vacancies import Vacancies
from flynnhost.discovery.records import Instance, ServiceKeys
from flynnhost.discovery.registration import Registration
from flynnhost.http.session_client import SessionConnector
from flynnhost.interfaces import Following, IEtcd, ILeadership
from flynnhost.services import OrderedServices

KEYS = Keys()


@frozen
class Identity:
    """Who a host is to the others.

    :param instance: what tells the host from another that was given the same ID.
    :param boot: what tells this process from earlier ones of the host.
    """

    host_id: str
    instance: str
    boot: str


class Member(OrderedServices):
    """A host's part in a cluster. To be started when the agent has read its journal.

    When it stops, the host first gives up the leadership, if it has it, so that another one can be
    elected at once; then it says that it is gone, and ends its session.

    :param boottime: a clock that nobody can set and that goes on while the machine sleeps.
    :param addr: where this host's HTTP API is reached, as ``HOST:PORT``.
    :param since: when this host was elected with a term.
    :param lease_ttl: seconds after which a host that is gone can lead no longer.
    :ivar following: what this host knows of whoever leads.
    :ivar taking: takes what leaders send to this host.
    """

    def __init__(
        self,
        reactor: Any,
        boottime: Callable[[], float],
        etcd: IEtcd,
        identity: Identity,
        agent: Agent,
        leadership: ILeadership,
        addr: Callable[[], str],
        since: Callable[[int], datetime],
        lease_ttl: int,
    ) -> None:
        super().__init__(reactor)
        self._reactor = reactor
        self._etcd = etcd
        self._id = host_id = identity.host_id

        def host_record() -> HostRecord:
            return HostRecord(host_id, addr(), identity.instance)

        def leader_record(term: int) -> LeaderRecord:
            return LeaderRecord(host_id, addr(), term, since(term).isoformat().replace("+00:00", "Z"))

        def instance() -> Instance:
            return Instance(addr(), meta={"id": host_id})

        follower = LeaderFollower(reactor, etcd, KEYS)
        self._session = LeaderSession(
            reactor,
            agent,
            lambda: agent.highest_term,
            SessionConnector(reactor),
            identity.instance,
            identity.boot,
            invited=lambda: self._election.campaign(),
            addr=addr,
        )
        presence = Presence(reactor, boottime, etcd, KEYS, host_record, lease_ttl)
        registration = Registration(reactor, etcd, ServiceKeys(KEYS.prefix), instance)
        self._election = EtcdElection(
            reactor,
            etcd,
            KEYS,
            host_id,
            leadership,
            leader_record,
            registration.leader_keys,
            heard=lambda: agent.highest_term,
        )
        presence.add(registration)
        presence.add(self._election)
        follower.add(self._follow)
        follower.add(self._election.leader_changed)
        self._presence = presence
        for service in (self._session, follower, presence, registration, self._election):
            service.setServiceParent(self)
        self.taking = self._session.taking
        self.following = Following(
            lambda: follower.leader,
            lambda: follower.current and presence.certain,
            lambda: self._session.joined_term,
            follower.add,
        )

    @property
    def lease_remaining(self) -> float:
        """For how many seconds at least etcd keeps this host's lease; 0 if that is not known."""
        return self._presence.remaining

    def leads(self) -> bool:
        """Whether it is certain that this host leads."""
        return self._election.leads()

    def outranked(self, term: int) -> None:
        """A host has heard a higher term than this host leads with."""
        self._election.outranked(term)

    def look_after(self, leader: Leader, services: OrderedServices) -> None:
        """Tell a leader of this host which hosts there are, and have it see to there being others that
        can be elected, for as long as it leads.

        :param services: runs while it does.
        """
        registered = RegisteredHosts(self._reactor, self._etcd, KEYS, leader, self._election.condition)
        registered.setServiceParent(services)
        vacancies = Vacancies(
            self._reactor, MAX_CANDIDATES, self._election.candidates, registered.since, leader.invite
        )
        vacancies.setServiceParent(services)

    def _follow(self, leader: LeaderRecord | None) -> None:
        """A leader reaches its own host without a session."""
        self._session.follow(None if leader is None or leader.id == self._id else leader)
