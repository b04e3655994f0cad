"""A host's API on a port of this machine, with a host behind it that tests move along."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest_twisted
from click.testing import Result
from twisted.internet.defer import Deferred, succeed

from flynnhost.client.address import HostAddress
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.site import build_site
from flynnhost.interfaces import ICluster
from flynnhost.model import Artifact, ContainerConfig, Host, Job
from flynnhost.testing.agent import FakeAgent, FakeCluster
from tests.support.waiting import until

Run = Callable[..., Deferred[Result]]
"""Runs a command, for which it is given the arguments."""

Test = Callable[..., Coroutine[Any, Any, None]]

in_the_reactor: Callable[[Test], Test] = pytest_twisted.ensureDeferred
"""Makes a test of a coroutine."""


def job(job_id: str, *cmd: str, image: str = "busybox:latest", **more: Any) -> Job:
    """A job as a host takes it."""
    return Job(job_id, Artifact(image), ContainerConfig(cmd=cmd), **more)


class ServedHost:
    """The API, served on the reactor that is given."""

    def __init__(self, reactor: Any, host_id: str = "h1", cluster: ICluster | None = None) -> None:
        self.reactor = reactor
        self.agent = FakeAgent(reactor, host_id)
        self.cluster = FakeCluster()
        site, self.streams = build_site(reactor, self.agent, cluster or self.cluster, facts=self.told)
        assert isinstance(self.streams, OpenStreams)
        self._port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.facts: dict[str, Any] = {}
        self.cluster.add_host(Host(host_id, addr=self.address.netloc))

    def told(self) -> Deferred[Mapping[str, Any]]:
        """What its status tells beside what the agent says: ``facts``."""
        return succeed(self.facts)

    @property
    def address(self) -> HostAddress:
        """Where it is."""
        return HostAddress("127.0.0.1", self._port.getHost().port)

    def add(self, *jobs: Job, running: bool = True) -> None:
        """Jobs come, and run."""
        for each in jobs:
            self.agent.accept([each], 0)
            if running:
                self.agent.run(each.id)

    async def close(self) -> None:
        """Close everything; the clients must have closed their connections."""
        await self._port.stopListening()
        await until(self.reactor, lambda: not len(self.streams), "the streams to end")
        await until(self.reactor, self._all_closed, "the connections to close")

    def _all_closed(self) -> bool:
        return not any("HTTPChannel" in repr(reader) for reader in self.reactor.getReaders())
