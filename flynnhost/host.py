"""A whole host, put together from its parts."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import lru_cache, partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

from flynnhost.agent.assembly import build_agent
from flynnhost.agent.foreseeing import foresee
from flynnhost.agent.ports import port_is_free
from flynnhost.agent.settings import HostSettings
from flynnhost.agent.spool import Spool, SpoolLimits
from flynnhost.agent.spool_files import SpoolFiles
from flynnhost.agent.state_dir import StateDir
from flynnhost.agent.taking import Taking
from flynnhost.cluster.election import SoloElection
from flynnhost.cluster.leader import Leader
from flynnhost.cluster.local import LocalHost
from flynnhost.cluster.role import LeaderRole, Leading
from flynnhost.facts import HostFacts
from flynnhost.http.listener import Listener
from flynnhost.http.site import build_site
from flynnhost.interfaces import IContainers, IEtcd, IJournal
from flynnhost.member import Identity, Member
from flynnhost.services import OrderedServices, StartedAfter
from flynnhost.settings import Settings
from flynnhost.threads import Threads

log = Logger()

SPOOL_THREADS = 4
"""How many write and read at the same time what slow readers of jobs' output have not read."""


def build_host(
    reactor: Any,
    settings: Settings,
    *,
    journal: IJournal,
    containers: IContainers,
    state_dir: StateDir,
    now: Callable[[], datetime],
    boottime: Callable[[], float],
    epoch: str,
    resources: Mapping[str, int],
    etcd: IEtcd | None = None,
) -> OrderedServices:
    """The services of a host, which are stopped in the reverse order of their start.

    The election comes last: a host that ends first lets another one lead, and goes on answering
    meanwhile.

    :param now: tells the time of day.
    :param boottime: a clock that nobody can set and that goes on while the machine sleeps.
    :param epoch: what tells this process from others of this host.
    :param resources: what the machine has: memory in bytes, cpu in thousandths of a core.
    :param etcd: keeps the cluster together; None for a solo host.
    :raises InvalidField: when an endpoint description is wrong.
    """
    threads = Threads(reactor, "flynn-host spool", SPOOL_THREADS)
    spool_directory = state_dir.path / "spool"

    def make_spool(lost: Callable[[int, str], None]) -> Spool:
        return Spool(SpoolFiles(threads, spool_directory), SpoolLimits(), lost)

    agent = build_agent(
        reactor,
        now,
        _host_settings(settings, resources),
        journal,
        containers,
        port_is_free(settings.bind),
        epoch,
        make_spool,
        lambda reason: _end(reactor, reason),
    )

    def highest_term() -> int:
        return agent.highest_term

    def addr() -> str:
        return _address(settings, listener)

    @lru_cache(maxsize=4)
    def since(term: int) -> datetime:
        """When this host was elected with this term, which all hosts are to tell alike."""
        return now()

    def leading(term: int) -> Leading:
        service = OrderedServices(reactor)
        if member is None:
            leader = Leader(reactor, now, term, settings.id, addr())
            leader.setServiceParent(service)
        else:
            leader = Leader(
                reactor,
                partial(since, term),
                term,
                settings.id,
                addr(),
                member.leads,
                None,
                outranked=member.outranked,
            )
            leader.setServiceParent(service)
            member.look_after(leader, service)
        taking = Taking(reactor, agent, highest_term) if member is None else member.taking
        foreseeing = partial(foresee, agent, highest_term)
        LocalHost(agent, leader, foreseeing, taking.on_the_way, taking.take).setServiceParent(service)
        return Leading(service, leader)

    def listening() -> list[str]:
        return listener.addresses

    role = LeaderRole(leading)
    member: Member | None = None
    if etcd is None:
        before = [_AtTheEnd(state_dir.release), _AtTheEnd(threads.stop)]
        election: Service = SoloElection(reactor, agent.begin_term, role)
        following = None
    else:
        before = [_AtTheEnd(state_dir.release), _AtTheEnd(threads.stop), _AtTheEnd(etcd.close)]
        identity = Identity(settings.id, state_dir.instance(), epoch)
        member = Member(reactor, boottime, etcd, identity, agent, role, addr, since, settings.lease_ttl)
        election = StartedAfter(agent.opened, member)
        following = member.following
    facts = HostFacts(reactor, settings, agent, now, addr, listening, member)
    site, streams = build_site(reactor, agent, role, following, facts.gather)
    listener = Listener(reactor, settings.listen, site, streams)
    host = OrderedServices(reactor)
    for service in (*before, agent, role, listener, election):
        service.setServiceParent(host)
    return host


class _AtTheEnd(Service):
    """Does something when all that was started later has stopped."""

    def __init__(self, finish: Callable[[], Deferred[None] | None]) -> None:
        self._finish = finish

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        return self._finish()


def _host_settings(settings: Settings, resources: Mapping[str, int]) -> HostSettings:
    return HostSettings(
        host_id=settings.id,
        external_ip=settings.external,
        bind_ip=settings.bind,
        attributes=settings.attributes,
        resources=resources,
        ports=settings.ports,
        force=settings.force,
        starts_at_once=settings.max_starts,
    )


def _address(settings: Settings, listener: Listener) -> str:
    host = f"[{settings.external}]" if ":" in settings.external else settings.external
    return f"{host}:{listener.port}"


def _end(reactor: Any, reason: str) -> None:
    """End the process because the host can't work, with status 1."""
    log.critical("This host can't work: {reason}", reason=reason)
    # The reactor ends with status 0 whatever happened; this runs when twistd has tidied up.
    atexit.register(os._exit, 1)
    with suppress(ReactorNotRunning):  # if it is being stopped already
        reactor.stop()
