"""Sessions over WebSockets: over real sockets, and refusals to the byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Ping, TextMessage
from zope.interface import implementer

from flynnhost.agent.leader_session import LeaderSession
from flynnhost.canonical import canonical
from flynnhost.cluster.leader import Leader
from flynnhost.errors import NoLeader, NotReady
from flynnhost.http import session_socket
from flynnhost.http.decode import MAX_JOB_BYTES, decode_job
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.session_client import SessionConnector
from flynnhost.http.session_server import SESSION_PATH, SessionResource
from flynnhost.http.session_socket import SessionSocket
from flynnhost.http.site import APISite, build_root
from flynnhost.interfaces import IClusterHosts, ISessionTransport, ISessionUser
from flynnhost.messages import CHUNK_BYTES, MAX_MESSAGE_BYTES
from flynnhost.model import Artifact, Host, Job
from flynnhost.testing.agent import FakeAgent, FakeCluster
from flynnhost.testing.http_connection import MemoryConnection
from flynnhost.testing.session_rig import Follow
from tests.support.http_errors import assert_error
from tests.support.reactor import on_reactor
from tests.support.waiting import until

HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@define(eq=False)
class User:
    """Keeps what it is told."""

    transport: ISessionTransport
    got: list[bytes] = field(factory=list)
    lost_for: str = ""
    resumes: int = 0

    def received(self, message: bytes) -> None:
        self.got.append(message)

    def resumed(self) -> None:
        self.resumes += 1

    def lost(self, reason: str) -> None:
        assert not self.lost_for
        self.lost_for = reason


@implementer(IClusterHosts)
@define(eq=False)
class Hosts:
    """A leader that only opens sessions."""

    leading: bool = True
    users: list[User] = field(factory=list)

    def host(self, host_id: str) -> Host:
        raise NoLeader

    def set_draining(self, host_id: str, draining: bool) -> Deferred[None]:
        return fail(NoLeader())

    def remove_job(self, host_id: str, job_id: str) -> None:
        raise NoLeader

    def register(self, host: Host, jobs: Any) -> Callable[[], None]:
        raise NoLeader

    def open_session(self, transport: ISessionTransport) -> ISessionUser:
        if not self.leading:
            raise NoLeader
        self.users.append(User(transport))
        return self.users[-1]


def site_of(clock: Any, hosts: IClusterHosts, streams: OpenStreams) -> APISite:
    root = build_root(clock, FakeAgent(clock), FakeCluster(), streams)
    root.putChild(b"unused", root)
    root._exact = {SESSION_PATH: SessionResource(clock, hosts, streams)}
    return APISite(root, reactor=clock)


@define(eq=False)
class Served:
    """A leader's port, and who connects to it."""

    reactor: Any
    hosts: Hosts = field(factory=Hosts)
    streams: OpenStreams = field(factory=OpenStreams)
    mine: list[User] = field(factory=list)
    port: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        site = site_of(self.reactor, self.hosts, self.streams)
        self.port = self.reactor.listenTCP(0, site, interface="127.0.0.1")

    @property
    def addr(self) -> str:
        return f"127.0.0.1:{self.port.getHost().port}"

    def connect(self, addr: str = "", within: float = 5) -> Deferred[ISessionTransport]:
        return SessionConnector(self.reactor, within=within).connect(addr or self.addr, self.begin)

    def begin(self, transport: ISessionTransport) -> ISessionUser:
        self.mine.append(User(transport))
        return self.mine[-1]

    async def pair(self) -> tuple[User, User]:
        """Both ends of a new session: the host's, and the leader's."""
        await self.connect()
        return self.mine[-1], self.hosts.users[-1]

    async def until(self, condition: Callable[[], Any], what: str = "it") -> None:
        await until(self.reactor, condition, what)

    async def close(self) -> None:
        await self.port.stopListening()
        await self.streams.close_all()
        await self.until(lambda: all(user.lost_for for user in self.mine + self.hosts.users), "the end")


@pytest.fixture
def served(clean_reactor: Any) -> Iterator[Served]:
    served = Served(clean_reactor)
    yield served
    pytest_twisted.blockon(Deferred.fromCoroutine(served.close()))


@on_reactor
async def test_messages(served: Served) -> None:
    """Messages of any size come whole and in order, both ways."""
    host, leader = await served.pair()
    sent = [b"", b"a", b"x" * 70_000, b"\x00\xff" * 1_000_000, b"last"]
    for message in sent:
        host.transport.send(message)
        leader.transport.send(message)
    await served.until(lambda: len(host.got) == len(leader.got) == len(sent))
    assert host.got == leader.got == sent


@on_reactor
async def test_full(served: Served) -> None:
    """A side is full while the other takes nothing, and hears when it does again."""
    host, leader = await served.pair()
    socket: Any = host.transport
    socket._transport.pauseProducing()
    count = 0
    while not leader.transport.full:
        leader.transport.send(b"x" * 100_000)
        count += 1
        if count % 10 == 0:
            await served.until(lambda: True)
    # Meanwhile the other way goes on.
    host.transport.send(b"a beat")
    await served.until(lambda: leader.got)
    socket._transport.resumeProducing()
    await served.until(lambda: leader.resumes and len(host.got) == count)
    assert not leader.transport.full


@pytest.mark.parametrize("closes", ["host", "leader"])
@on_reactor
async def test_close(served: Served, closes: str) -> None:
    """What was sent before the close arrives, and both hear of the end."""
    host, leader = await served.pair()
    near, far = (host, leader) if closes == "host" else (leader, host)
    near.transport.send(b"x" * 1_000_000)
    near.transport.close()
    near.transport.close()
    near.transport.send(b"too late")
    await served.until(lambda: near.lost_for and far.lost_for)
    assert [len(message) for message in far.got] == [1_000_000]
    assert near.lost_for == "closed here"
    assert far.lost_for == "closed by the other side: closed here"
    assert len(served.streams) == 0


@on_reactor
async def test_close_while_nothing_is_taken(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is closed while the other side takes nothing does not stay for ever."""
    monkeypatch.setattr(session_socket, "CLOSE_WITHIN", 0.2)
    host, leader = await served.pair()
    socket: Any = host.transport
    socket._transport.pauseProducing()
    leader.transport.send(b"x" * 20_000_000)
    leader.transport.close()
    await served.until(lambda: leader.lost_for)
    socket._transport.resumeProducing()


@on_reactor
async def test_connection_breaks(served: Served) -> None:
    """When the connection breaks both hear of it."""
    host, leader = await served.pair()
    socket: Any = leader.transport
    socket._transport.abortConnection()
    await served.until(lambda: host.lost_for and leader.lost_for)


@on_reactor
async def test_not_leading(served: Served) -> None:
    """Of a host that does not lead, and of one that is not there, that is told."""
    served.hosts.leading = False
    with pytest.raises(NotReady, match=r"answers 503 .*no_leader"):
        await served.connect()
    with pytest.raises(NotReady, match="nobody answers"):
        await served.connect("127.0.0.1:1")
    for addr in ("nowhere", "127.0.0.1:x"):
        with pytest.raises(NotReady, match="is not where"):
            await served.connect(addr)
    assert served.mine == []


@on_reactor
async def test_streams_are_closed(served: Served) -> None:
    """When the process stops its sessions end, and none begins."""
    await served.pair()
    await served.streams.close_all()
    with pytest.raises(NotReady, match="answers 503"):
        await served.connect()


class _Mute(Protocol):
    """Says nothing, or something that is no handshake."""

    said: bytes = b""

    def dataReceived(self, data: bytes) -> None:
        if self.said:
            self.transport.write(self.said)  # type: ignore[union-attr]
            self.transport.loseConnection()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "within 0.3 s"),
        (b"nonsense\r\n\r\n", "does not speak our way"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "answers 200"),
        (b"HTTP/1.1 101 Switching", "has ended the connection"),
    ],
)
@on_reactor
async def test_another_server(clean_reactor: Any, said: bytes, reason: str) -> None:
    """A server that is something else is given up within the deadline."""

    def build() -> _Mute:
        mute = _Mute()
        mute.said = said
        return mute

    port = clean_reactor.listenTCP(0, Factory.forProtocol(build), interface="127.0.0.1")
    connector = SessionConnector(clean_reactor, within=0.3)
    with pytest.raises(NotReady, match=reason):
        await connector.connect(f"127.0.0.1:{port.getHost().port}", User)
    given_up = connector.connect(f"127.0.0.1:{port.getHost().port}", User)
    given_up.cancel()
    with pytest.raises(CancelledError):
        await given_up
    await port.stopListening()


@on_reactor
async def test_agent_and_leader(clean_reactor: Any) -> None:
    """A host joins its leader, and is given a job, over a real connection."""
    agent = FakeAgent(clean_reactor, "h1")
    agent.accept([Job("a", Artifact("busybox"))], 0)
    leader = Leader(clean_reactor, lambda: agent._now(), 7, "h9", "127.0.0.1:1")
    leader.startService()
    streams = OpenStreams()
    port = clean_reactor.listenTCP(0, site_of(clean_reactor, leader, streams), interface="127.0.0.1")
    session = LeaderSession(
        clean_reactor, agent, lambda: 0, SessionConnector(clean_reactor), "i", "b", spread=0
    )
    session.startService()
    session.follow(Follow(f"127.0.0.1:{port.getHost().port}", 7))
    await until(clean_reactor, leader.hosts, "the host to join")
    (placement,) = await leader.submit({"h1": [Job("b", Artifact("busybox"))]})
    assert placement.host_id == "h1"
    assert [job.id for job in leader.host("h1").jobs] == ["a", "b"]
    await session.stopService()
    await until(clean_reactor, lambda: leader.host("h1").down, "the host to be missed")
    await leader.stopService()
    await port.stopListening()
    await streams.close_all()


# --- to the byte --------------------------------------------------------------


@define(eq=False)
class Memory:
    """A leader's port in memory."""

    clock: Clock = field(factory=Clock)
    hosts: Hosts = field(factory=Hosts)
    streams: OpenStreams = field(factory=OpenStreams)
    site: APISite = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.site = site_of(self.clock, self.hosts, self.streams)

    def ask(self, method: str = "GET", headers: Any = HANDSHAKE) -> MemoryConnection:
        client = MemoryConnection(self.clock, self.site)
        client.request(method, SESSION_PATH.decode(), None, headers)
        return client

    def open(self) -> tuple[MemoryConnection, Connection, User]:
        client = self.ask()
        assert client.received().startswith(b"HTTP/1.1 101 ")
        return client, Connection(ConnectionType.CLIENT), self.hosts.users[-1]


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_handshake(memory: Memory) -> None:
    """The answer is WebSocket's own."""
    answer = memory.ask().received().split(b"\r\n")
    assert answer[0].startswith(b"HTTP/1.1 101 ")
    assert {b"Upgrade: websocket", b"Connection: Upgrade"} <= set(answer)


@pytest.mark.parametrize("left_out", ["Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version"])
def test_no_handshake(memory: Memory, left_out: str) -> None:
    """What is no handshake is refused in our way."""
    headers = {name: value for name, value in HANDSHAKE.items() if name != left_out}
    error = assert_error(memory.ask(headers=headers).answer(), 400, "validation_error")
    assert error["detail"] == {"field": "Upgrade"}
    assert memory.hosts.users == []


def test_other_methods(memory: Memory) -> None:
    """There is only GET."""
    answer = memory.ask("PUT").answer()
    assert_error(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"


def test_nobody_leads(memory: Memory) -> None:
    """A host that does not lead says so before anything is agreed."""
    memory.hosts.leading = False
    assert_error(memory.ask().answer(), 503, "no_leader", retry=True)


def test_pieces(memory: Memory) -> None:
    """A message in pieces is one message, with a ping between them answered."""
    client, far, user = memory.open()
    data = far.send(BytesMessage(b"ab", message_finished=False)) + far.send(Ping(b"?"))
    data += far.send(BytesMessage(b"cd"))
    for byte in data:
        client.send(bytes([byte]))
    assert user.got == [b"abcd"]
    assert client.received() == b"\x8a\x01?"


def test_too_long(memory: Memory) -> None:
    """A message that is too long ends the session before all of it is there."""
    client, far, user = memory.open()
    socket: Any = user.transport
    assert isinstance(socket, SessionSocket)
    socket._limit = 100
    client.send(far.send(BytesMessage(b"x" * 100)))
    client.send(far.send(BytesMessage(b"x" * 1000))[:200])
    client.send(b"what comes after it is not looked at")
    memory.clock.advance(0)
    assert [len(message) for message in user.got] == [100]
    assert client.received()[2:4] == (1009).to_bytes(2, "big")
    assert "longer than 100 bytes" in user.lost_for


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff\xff\xff", None])
def test_not_our_way(memory: Memory, data: bytes | None) -> None:
    """Text, and what is no WebSocket at all, end the session."""
    client, far, user = memory.open()
    client.send(data or far.send(TextMessage("hello")))
    memory.clock.advance(0)
    assert user.lost_for
    assert user.got == []


def test_canonical_jobs_fit() -> None:
    """The largest job that there may be fits into a message, also if what it leaves out is written."""
    ports = ",".join(["{}"] * 170_000)
    body = f'{{"artifact":{{"url":"a"}},"config":{{"ports":[{ports}]}}}}'.encode()
    assert MAX_JOB_BYTES * 0.9 < len(body) < MAX_JOB_BYTES
    assert len(canonical(decode_job(body, "a" * 64))) + CHUNK_BYTES < MAX_MESSAGE_BYTES
