"""The host that doctor looks at, whether it runs or not."""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from flynnhost.client import calls
from flynnhost.client.address import HostAddress
from flynnhost.client.blocking import BlockingClient
from flynnhost.client.errors import ClientError
from flynnhost.client.status import HostStatus
from flynnhost.option_checks import CHECKS
from flynnhost.settings import DEFAULT_DOCKER, options_of_file

ASK_WITHIN = 5.0
"""Seconds that anything has to answer."""


@frozen
class Told:
    """What a host has told of itself.

    :param ahead: seconds by which its clock is ahead of the one here.
    :param give_or_take: seconds by which that may be wrong.
    """

    status: HostStatus
    ahead: float | None = None
    give_or_take: float = 0.0


@frozen
class Options:
    """What a host would be started with: what its configuration and the environment say."""

    docker: str = DEFAULT_DOCKER
    etcd: tuple[str, ...] = ()
    solo: bool = False
    state_dir: str = "/var/lib/flynn-host"
    ports: tuple[int, int] = (55000, 65535)

    @classmethod
    def read(cls, config: str, environ: Mapping[str, str]) -> Options:
        """From a file and the environment, each of which may say nothing.

        :raises InvalidField: when one of them says what can't be.
        """
        given: dict[str, Any] = {}
        if environ.get("DOCKER_HOST"):
            given["docker"] = environ["DOCKER_HOST"]
        if environ.get("ETCD_ENDPOINTS"):
            given["etcd"] = environ["ETCD_ENDPOINTS"]
        given |= options_of_file(config) if config else {}
        named = (name for name in ("docker", "etcd", "solo", "ports") if name in given)
        known: dict[str, Any] = {name: CHECKS[name](given[name]) for name in named}
        if "state-dir" in given:
            known["state_dir"] = str(CHECKS["state-dir"](given["state-dir"]))
        return cls(**known)


@frozen
class Subject:
    """A host, and where it is.

    :param here: whether that is this machine.
    :param told: what it tells; None if it does not answer.
    :param problem: why it does not.
    :param options: what it would be started with.
    """

    address: HostAddress
    here: bool
    told: Told | None
    problem: ClientError | None
    options: Options

    @property
    def status(self) -> HostStatus | None:
        """What it tells; None if it does not answer."""
        return self.told.status if self.told is not None else None

    @property
    def ports(self) -> tuple[int, int]:
        """The first and the last port that jobs can be given."""
        status = self.status
        return (status.ports.first, status.ports.last) if status and status.ports.last else self.options.ports


def examine(address: HostAddress, options: Options) -> Subject:
    """Ask a host how it is."""
    told: Told | None = None
    problem: ClientError | None = None
    try:
        told = ask(address)
    except ClientError as e:
        problem = e
    return Subject(address, is_here(address.host), told, problem, options)


def ask(address: HostAddress, within: float = ASK_WITHIN, now: Callable[[], float] = time.time) -> Told:
    """What a host tells of itself.

    :param now: tells the time here.
    :raises ClientError: when it does not.
    """
    with BlockingClient(address, within) as client:
        client.run(calls.health())  # the connection is there from now on, and costs no time
        before = now()
        status = client.run(calls.host_facts())
        after = now()
    if status.time is None:
        return Told(status)
    return Told(status, status.time.timestamp() - (before + after) / 2, (after - before) / 2)


def is_here(host: str) -> bool:
    """Whether a name or an address is one of this machine."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    return any(_can_bind(family, address) for family, _, _, _, address in found)


def _can_bind(family: int, address: Any) -> bool:
    if ipaddress.ip_address(address[0].partition("%")[0]).is_unspecified:
        return False
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(address)
        except OSError:
            return False
        return True


def nearest_that_exists(path: str) -> str:
    """A path, or as much of its beginning as there is."""
    there = Path(path)
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    return str(there)
