"""Making a client of etcd from what an operator says of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from attrs import field, frozen

from flynnhost.etcd.auth import Login, User
from flynnhost.etcd.endpoints import Endpoint, Endpoints, parse_endpoints
from flynnhost.etcd.tls import Tls, TlsFiles
from flynnhost.interfaces import IEtcd


@frozen
class EtcdSettings:
    """Where etcd is, and how to speak to it.

    :param endpoints: URLs of members with a vote.
    :param tls: for those that begin with ``https``.
    :param user: who we are there; None if etcd does not ask.
    :param timeout: the deadline of each call in seconds.
    :param connect_timeout: how many of these a connection may take to be made.
    :param silence: seconds after which a watch that hears nothing looks for another member; three
        times etcd's ``--experimental-watch-progress-notify-interval`` is a good choice.
    :param at_once: how many calls may be under way at a time; keep-alives don't count.
    """

    endpoints: tuple[str, ...]
    tls: TlsFiles = field(factory=TlsFiles)
    user: User | None = None
    timeout: float = 5.0
    connect_timeout: float = 2.0
    silence: float = 15.0
    at_once: int = 32


def connect(reactor: Any, settings: EtcdSettings, chance: Callable[[], float] = random.random) -> IEtcd:
    """A client, which connects when it is used.

    :param chance: gives numbers from 0 to below 1.
    :raises InvalidField: when a setting can't be used.
    """
    # Not before etcd is used: with txaioetcd come 18 MB, and half a second goes by.
    from flynnhost.etcd.client import EtcdClient
    from flynnhost.etcd.lanes import Lane, Lanes
    from flynnhost.etcd.transport import Transport

    endpoints = parse_endpoints(settings.endpoints)
    tls = Tls(settings.tls) if any(each.secure for each in endpoints) else None

    def lane(endpoint: Endpoint) -> Lane:
        return Lane(reactor, endpoint, tls, settings.connect_timeout)

    transport = Transport(
        reactor,
        Endpoints(reactor, endpoints, chance),
        Lanes(lane, settings.at_once),
        Lanes(lane, 2),
        Login(settings.user) if settings.user else None,
        settings.at_once,
    )
    client: IEtcd = EtcdClient(transport, settings.timeout, settings.silence, chance)
    return client
