"""Real etcd as a rig for the contract of its clients, and ways to disturb the connections to it."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest_twisted
from attrs import define, evolve, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from flynnhost.etcd.auth import User
from flynnhost.etcd.connect import EtcdSettings, connect
from flynnhost.testing.etcd_contract_rig import LossRig
from tests.support.etcd import EtcdCluster, Member

_numbers = itertools.count()


class RealRig(LossRig):
    """Runs tests on the global reactor. Each rig has keys of its own."""

    def __init__(self, reactor: Any, cluster: EtcdCluster, user: User | None = None) -> None:
        self.clock = self.reactor = reactor
        self.cluster = cluster
        self.user = user
        self.prefix = f"{user.name if user else 'test'}/{os.getpid()}-{next(_numbers)}/".encode()
        self.clients: list[Any] = []
        self.proxies: list[Proxy] = []
        self._down: list[Member] = []
        self._hanging: list[Member] = []

    def run(self, test: Coroutine[Any, Any, None]) -> Deferred[None]:
        return Deferred.fromCoroutine(test)

    def client(self, urls: Sequence[str] = (), **options: Any) -> Any:
        """A new client, of all members if none are named; options are those of ``EtcdSettings``."""
        settings = EtcdSettings(
            endpoints=tuple(urls or self.cluster.urls),
            tls=self.cluster.files,
            user=self.user,
            silence=10.0,
            timeout=10.0,
        )
        client: Any = connect(self.reactor, evolve(settings, **options))
        self.clients.append(client)
        return client

    async def proxy(self, member: Member) -> Proxy:
        """A new proxy to a member."""
        proxy = Proxy(self.reactor, member)
        await proxy.start()
        self.proxies.append(proxy)
        return proxy

    async def compact(self, revision: int) -> None:
        self.cluster.compact(revision)

    def go_down(self) -> None:
        for member in self.cluster.members:
            self.kill(member)

    def hang(self) -> None:
        for member in self.cluster.members:
            self.stop(member)

    def kill(self, member: Member) -> None:
        """End one member as a crash would."""
        member.kill()
        self._down.append(member)

    def stop(self, member: Member) -> None:
        """Let one member hang."""
        member.signal(signal.SIGSTOP)
        self._hanging.append(member)

    async def come_back(self) -> None:
        self.bring_back()
        await deferToThread(self.cluster.wait_ready)

    def bring_back(self) -> None:
        """What ``come_back`` does, without waiting."""
        for member in self._hanging:
            member.signal(signal.SIGCONT)
        for member in self._down:
            self.cluster.run(member)
        self._hanging, self._down = [], []

    def close(self) -> None:
        """Close the clients and end all troubles. Not for use within a test."""
        disturbed = bool(self._hanging or self._down)
        self.bring_back()
        pytest_twisted.blockon(Deferred.fromCoroutine(self._close()))
        if disturbed:
            self.cluster.wait_ready()

    async def _close(self) -> None:
        await gatherResults([client.close() for client in self.clients])
        for proxy in self.proxies:
            await proxy.stop()


@define(eq=False)
class _Side(Protocol):
    """One side of a connection through a proxy."""

    proxy: Proxy
    other: _Side | None = None
    held: list[bytes] = field(factory=list)

    def connectionMade(self) -> None:
        self.proxy.sides.append(self)

    def dataReceived(self, data: bytes) -> None:
        from_etcd = self in self.proxy.to_etcd
        if not self.proxy.silent and not (from_etcd and self.proxy.mute):
            if self.other is None or self.other.transport is None:
                self.held.append(data)
            else:
                self.other.send(data)

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        size = self.proxy.piece or len(data)
        for start in range(0, len(data), size):
            self.transport.write(data[start : start + size])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.proxy.sides.remove(self)
        if self.other is not None and self.other.transport is not None and not self.proxy.silent:
            self.other.transport.loseConnection()


@define(eq=False)
class Proxy:
    """Passes connections on to a member, as long as it pleases.

    :ivar silent: whether nothing is passed on, in either direction, not even the end of a connection.
    :ivar mute: whether nothing is passed on that etcd says.
    :ivar piece: how long the pieces are at most into which it cuts what it passes on; 0 for any.
    """

    reactor: Any
    member: Member
    silent: bool = False
    mute: bool = False
    piece: int = 0
    sides: list[_Side] = field(factory=list)
    to_etcd: list[_Side] = field(factory=list)
    _port: Any = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self.member.scheme}://127.0.0.1:{self._port.getHost().port}"

    @property
    def connections(self) -> int:
        """How many there are, as far as clients know."""
        return sum(side not in self.to_etcd for side in self.sides)

    async def start(self) -> None:
        """Begin to listen."""
        proxy = self

        class Accept(Factory):
            def buildProtocol(self, addr: Any) -> _Side:
                client = _Side(proxy)
                server = _Side(proxy)
                proxy.to_etcd.append(server)
                to = TCP4ClientEndpoint(proxy.reactor, "127.0.0.1", proxy.member.port)

                def connected(_: Any) -> None:
                    client.other, server.other = server, client
                    for data in client.held:
                        server.send(data)
                    client.held.clear()

                def refused(_: Failure) -> None:
                    if client.transport is not None:
                        client.transport.loseConnection()

                connectProtocol(to, server).addCallbacks(connected, refused)
                return client

        self._port = await TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1").listen(Accept())

    async def stop(self) -> None:
        """Listen no longer, and cut all connections."""
        await self._port.stopListening()
        self.cut()

    def cut(self) -> None:
        """Cut all connections."""
        for side in list(self.sides):
            transport: Any = side.transport
            if transport is not None:
                transport.abortConnection()
