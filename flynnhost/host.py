"""A whole host, put together from its parts."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

from flynnhost.agent.assembly import build_agent
from flynnhost.agent.ports import port_is_free
from flynnhost.agent.settings import HostSettings
from flynnhost.agent.state_dir import StateDir
from flynnhost.cluster.election import SoloElection
from flynnhost.cluster.leader import Leader
from flynnhost.cluster.local import LocalHost
from flynnhost.cluster.role import LeaderRole, Leading
from flynnhost.http.listener import Listener
from flynnhost.http.site import build_site
from flynnhost.interfaces import IContainers, IJournal
from flynnhost.services import OrderedServices
from flynnhost.settings import Settings

log = Logger()


def build_host(
    reactor: Any,
    settings: Settings,
    *,
    journal: IJournal,
    containers: IContainers,
    state_dir: StateDir,
    now: Callable[[], datetime],
    epoch: str,
) -> IService:
    """The services of a host: its agent, then who leads, then the API; stopped the other way round.

    :param now: tells the time of day.
    :param epoch: what tells this run's event IDs from another's.
    :raises InvalidField: when an endpoint description is wrong.
    """
    agent = build_agent(
        reactor,
        now,
        _host_settings(settings),
        journal,
        containers,
        port_is_free(settings.bind),
        epoch,
        lambda reason: _end(reactor, reason),
    )

    def leading(term: int) -> Leading:
        leader = Leader(reactor, now, term, settings.id, _address(settings, listener))
        service = OrderedServices(reactor)
        leader.setServiceParent(service)
        LocalHost(agent, leader).setServiceParent(service)
        return Leading(service, leader)

    role = LeaderRole(leading)
    site, streams = build_site(reactor, agent, role)
    listener = Listener(reactor, settings.listen, site, streams)
    election = SoloElection(reactor, agent.begin_term, role)
    host = OrderedServices(reactor)
    for service in (_Held(state_dir), agent, role, election, listener):
        service.setServiceParent(host)
    return host


class _Held(Service):
    """Has the state directory for as long as the host runs."""

    def __init__(self, state_dir: StateDir) -> None:
        self._state_dir = state_dir

    def stopService(self) -> None:
        super().stopService()
        self._state_dir.release()


def _host_settings(settings: Settings) -> HostSettings:
    return HostSettings(
        host_id=settings.id,
        external_ip=settings.external,
        bind_ip=settings.bind,
        attributes=settings.attributes,
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
