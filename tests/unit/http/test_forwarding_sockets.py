"""A leader and a host that follows it, each with its API on a port of this machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import pytest_twisted
from attrs import define, field, frozen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from flynnhost.cluster.leader import Leader
from flynnhost.cluster.records import LeaderRecord
from flynnhost.cluster.role import LeaderRole, Leading
from flynnhost.http import forwarded, forwarding, host_registration
from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.request import MAX_BODY_BYTES
from flynnhost.http.site import build_site
from flynnhost.interfaces import Following
from flynnhost.model import Artifact, ContainerConfig, Host, Job
from flynnhost.testing.agent import FakeAgent
from flynnhost.testing.http_connection import Answer, dechunk
from tests.support.http_errors import assert_error
from tests.support.silence import die_silently
from tests.support.waiting import until

Test = Callable[..., Coroutine[Any, Any, None]]
in_the_reactor: Callable[[Test], Test] = pytest_twisted.ensureDeferred


@frozen
class Node:
    """A host's role and API."""

    role: LeaderRole
    streams: OpenStreams
    listening: Any

    @property
    def port(self) -> int:
        return int(self.listening.getHost().port)


@define(eq=False)
class Pair:
    """Host h1, which leads, and host h2."""

    reactor: Any
    record: LeaderRecord | None = field(init=False, default=None)
    leader: Node = field(init=False)
    follower: Node = field(init=False)
    sockets: list[socket.socket] = field(init=False, factory=list)
    _listeners: list[Callable[[LeaderRecord | None], None]] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        self.leader = self._node("h1")
        self.follower = self._node("h2")
        self.record = LeaderRecord("h1", f"127.0.0.1:{self.leader.port}", 7, "2020-01-01T00:00:00Z")
        self.leader.role.elected(7)

    def _node(self, host_id: str) -> Node:
        def leading(term: int) -> Leading:
            now = datetime(2020, 1, 1, tzinfo=UTC)
            leader = Leader(self.reactor, lambda: now, term, host_id, f"127.0.0.1:{node.port}")
            return Leading(leader, leader)

        role = LeaderRole(leading)
        role.startService()
        following = Following(lambda: self.record, lambda: True, lambda: 0, self._listeners.append)
        site, streams = build_site(self.reactor, FakeAgent(self.reactor, host_id), role, following)
        node = Node(role, streams, self.reactor.listenTCP(0, site, interface="127.0.0.1"))
        return node

    def connect(self, node: Node, receive_buffer: int = 0) -> socket.socket:
        client = socket.socket()
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(10)
        client.connect(("127.0.0.1", node.port))
        self.sockets.append(client)
        return client

    async def ask(self, node: Node, request: bytes) -> Answer:
        """Send a request, and read its answer to the end of the connection."""
        return answer(await deferToThread(exchange, self.connect(node), request))

    async def both(self, request: bytes) -> tuple[Answer, Answer]:
        """The answers of the leader and of the host that follows it."""
        return await self.ask(self.leader, request), await self.ask(self.follower, request)

    def leaders_cluster(self) -> Leader:
        cluster = self.leader.role._core.cluster
        assert isinstance(cluster, Leader)
        return cluster

    def add_large_host(self, host_id: str, size: int) -> None:
        """A host whose jobs are so many bytes as JSON."""
        count = size // 100_000
        jobs = tuple(
            Job(f"{host_id}x{n}", Artifact("busybox"), ContainerConfig(env={"A": "x" * 100_000}))
            for n in range(count)
        )
        self.leaders_cluster().add_host(Host(host_id, {}, jobs), None)  # type: ignore[arg-type]

    def buffered(self, node: Node) -> int:
        """How many bytes wait in a host to be written to its clients."""
        transports = {*self.reactor.getReaders(), *self.reactor.getWriters()}
        return sum(
            len(each.dataBuffer) - each.offset + each._tempDataLen
            for each in transports
            if hasattr(each, "_tempDataLen") and each.getHost().port == node.port
        )

    async def close(self) -> None:
        for client in self.sockets:
            client.close()
        for node in (self.follower, self.leader):
            await maybeDeferred(node.listening.stopListening)
            await node.streams.close_all()
            await node.role.stopService()
        await until(self.reactor, self._all_closed, "the connections to close")

    def _all_closed(self) -> bool:
        return not any("HTTP" in repr(reader) for reader in self.reactor.getReaders())


@pytest.fixture
def pair(clean_reactor: Any) -> Iterator[Pair]:
    pair = Pair(clean_reactor)
    yield pair
    pytest_twisted.blockon(Deferred.fromCoroutine(pair.close()))


def request(method: str, path: str, body: bytes | None = None, *headers: str, close: bool = True) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: h", "Content-Type: application/json", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def exchange(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    received = []
    while more := client.recv(1 << 20):
        received.append(more)
    return b"".join(received)


def answer(data: bytes) -> Answer:
    head, _, rest = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    if headers.get("transfer-encoding") == "chunked":
        rest, after, ended = dechunk(rest)
        assert ended and not after
    return Answer(int(status.split(" ")[1]), headers, rest)


def read_until(client: socket.socket, ending: bytes) -> bytes:
    data = b""
    while not data.endswith(ending):
        more = client.recv(1 << 16)
        if not more:
            raise AssertionError(f"ended with {data[-100:]!r}")
        data += more
    return data


def read_to_the_break(client: socket.socket) -> bytes:
    data = b""
    try:
        while more := client.recv(1 << 20):
            data += more
    except ConnectionResetError:
        pass
    return data


def a_job(job_id: str) -> dict[str, Any]:
    return {"id": job_id, "artifact": {"url": "busybox", "type": "docker"}, "config": {}}


MINIMAL = "Prefer: return=minimal"


@pytest.mark.parametrize(
    "asked",
    [
        request("GET", "/cluster/hosts"),
        request("GET", "/cluster/hosts?jobs=ids"),
        request("GET", "/cluster/hosts?jobs=some"),
        request("GET", "/cluster/hosts?jobs=full&jobs=none"),
        request("GET", "/cluster/hosts?jobs=%FF"),
        request("GET", "/cluster/hosts?jobs=a#b"),
        request("HEAD", "/cluster/hosts"),
        request("GET", "/cluster/hosts", None, "Accept: text/html"),
        request("GET", "/cluster/hosts/"),
        request("GET", "/cluster/hosts/h1"),
        request("GET", "/cluster/hosts/h1;x"),
        request("GET", "/cluster/hosts/h1#x"),
        request("GET", "/cluster/hosts/nope"),
        request("GET", "/cluster/hosts/%C3%A4%2Fb"),
        request("GET", "/cluster/hosts/%FF"),
        request("HEAD", "/cluster/hosts/h1"),
        request("GET", "/cluster/leader/x"),
        request("PUT", "/cluster/leader", b""),
        request("HEAD", "/cluster/nope"),
        request("OPTIONS", "/cluster/hosts"),
        request("BREW", "/cluster/hosts"),
        request("BREW", "/cluster/nope"),
        request("GET", "/cluster"),
        request("GET", "/cluster/"),
        request("GET", "//cluster/hosts"),
        request("GET", "/cluster//hosts"),
        request("GET", "http://h/cluster/hosts"),
        request("DELETE", "/cluster/hosts/nope/jobs/x"),
        request("DELETE", "/cluster/hosts/h1", b"{}"),
        request("PUT", "/cluster/hosts/f1", b'{"id":"f2"}'),
        request("PUT", "/cluster/hosts/f1", b"{"),
        request("PUT", "/cluster/hosts/f1", b""),
        request("PUT", "/cluster/hosts/f1"),
        request("PUT", "/cluster/hosts/f1", b'{"id":"f1"}', "Content-Type: text/html"),
        request("POST", "/cluster/jobs", b"{}"),
        request("POST", "/cluster/jobs", b"{}", MINIMAL),
        request("POST", "/cluster/jobs", b"{"),
        request("POST", "/cluster/jobs", b""),
        request("POST", "/cluster/jobs"),
        request("POST", "/cluster/jobs", b"\xff"),
        request("POST", "/cluster/jobs", b'{"h1": null}'),
        request("POST", "/cluster/jobs", b'{"nope": [{"id":"x","artifact":{"url":"b"}}]}'),
        request("POST", "/cluster/jobs", b'{"h1": [{"id":"x","artifact":{"url":"b"},"x":1}]}'),
        request("POST", "/cluster/jobs", b'{"h1":[]}' + b" " * 300_000),
        request("POST", "/cluster/jobs", None, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n",
    ],
    ids=lambda asked: asked.partition(b" HTTP")[0].decode() + "," + str(len(asked)),
)
@in_the_reactor
async def test_any_host_answers(pair: Pair, asked: bytes) -> None:
    """Whoever is asked gives the same answer."""
    pair.leaders_cluster().add_host(Host("h1", {"zone": "a"}, (Job("j1", Artifact("busybox")),)), None)  # type: ignore[arg-type]
    direct, through = await pair.both(asked)
    for got in (direct, through):
        cast(dict[str, str], got.headers).pop("date", None)
    assert through == direct


@in_the_reactor
async def test_too_large(pair: Pair) -> None:
    """A body that is too large is refused by the host that is asked, and never reaches the leader."""
    asked = request("POST", "/cluster/jobs", b" " * (MAX_BODY_BYTES + 1))
    for got in await pair.both(asked):
        assert_error(got, 413, "too_large")


@in_the_reactor
async def test_who_leads(pair: Pair) -> None:
    """All hosts say the same of who leads."""
    direct, through = await pair.both(request("GET", "/cluster/leader"))
    assert direct.json == through.json
    assert direct.json["term"] == 7


@in_the_reactor
async def test_a_foreign_host(pair: Pair) -> None:
    """A host can register with any host, gets its jobs from there, and is gone with its stream."""
    host = pair.connect(pair.follower)
    host.sendall(request("PUT", "/cluster/hosts/f1", b'{"id":"f1"}', close=False))
    head = await deferToThread(read_until, host, b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and b"text/event-stream" in head
    batch = json.dumps({"f1": [a_job("a"), a_job("b")]}).encode()
    posted = await pair.ask(pair.follower, request("POST", "/cluster/jobs", batch, MINIMAL))
    assert [job["id"] for job in posted.json["jobs"]] == ["a", "b"]
    assert posted.headers["preference-applied"] == "return=minimal"
    job = '{"id":"%s","artifact":{"url":"busybox","type":"docker"},"config":{}}'
    expected = f"data: {job % 'a'}\n\ndata: {job % 'b'}\n\n".encode()
    received = b""
    while len(dechunk(received)[0]) < len(expected):
        received += await deferToThread(host.recv, 1 << 16)
    assert dechunk(received)[0] == expected
    removed = await pair.ask(pair.follower, request("DELETE", "/cluster/hosts/f1/jobs/a"))
    assert (removed.status, removed.body) == (200, b"")
    assert [job.id for job in pair.leaders_cluster().host("f1").jobs] == ["b"]
    host.close()
    await until(pair.reactor, lambda: not pair.leaders_cluster().hosts(), "the host to be gone")
    assert len(pair.follower.streams) == 0


@pytest.mark.parametrize("forwarded", [False, True])
@in_the_reactor
async def test_a_foreign_host_dies_silently(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, forwarded: bool
) -> None:
    """A foreign host whose machine goes without a word is gone soon, for its next process to register."""
    monkeypatch.setattr(host_registration, "KEEP_ALIVE_AFTER", 0.2)
    for module in (host_registration, forwarding):
        monkeypatch.setattr(module, "LOST_WITHIN", 1.0)
    registration = request("PUT", "/cluster/hosts/f1", b'{"id":"f1"}', close=False)
    asked = pair.follower if forwarded else pair.leader
    host = pair.connect(asked)
    host.sendall(registration)
    await deferToThread(read_until, host, b":\n\r\n")
    began = pair.reactor.seconds()
    die_silently(host)
    await until(pair.reactor, lambda: not pair.leaders_cluster().hosts(), "the host to be gone", 10)
    assert pair.reactor.seconds() - began < 4
    again = pair.connect(asked)
    again.sendall(registration)
    head = await deferToThread(read_until, again, b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")


async def begin_events(pair: Pair) -> socket.socket:
    client = pair.connect(pair.follower)
    client.sendall(request("GET", "/cluster/events", close=False))
    head = await deferToThread(read_until, client, b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    return client


@in_the_reactor
async def test_events(pair: Pair) -> None:
    """Events come through, a snapshot before them, and can be resumed."""
    cluster = pair.leaders_cluster()
    cluster.add_host(Host("f1"), None)  # type: ignore[arg-type]
    client = pair.connect(pair.follower)
    client.sendall(request("GET", "/cluster/events?snapshot=true", close=False))
    data = await deferToThread(read_until, client, b'current"}\n\n\r\n')
    first = cluster.events.last_id.encode()
    assert b'data: {"event":"add","host_id":"f1"}\n\nid: %b\nevent: current\n' % first in data
    cluster.add_host(Host("f2"), None)  # type: ignore[arg-type]
    data = await deferToThread(read_until, client, b"\n\n\r\n")
    second = cluster.events.last_id
    assert dechunk(data)[0] == b'id: %b\ndata: {"event":"add","host_id":"f2"}\n\n' % second.encode()
    cluster.add_host(Host("f3"), None)  # type: ignore[arg-type]
    again = pair.connect(pair.follower)
    again.sendall(request("GET", "/cluster/events", None, f"Last-Event-ID: {second}", close=False))
    data = await deferToThread(read_until, again, b'"host_id":"f3"}\n\n\r\n')
    assert b'"f2"' not in data


@in_the_reactor
async def test_the_leader_gives_up(pair: Pair) -> None:
    """A leader that ends its streams in an orderly way ends those that it does not know of too."""
    client = await begin_events(pair)
    await pair.leader.role.deposed()
    data = await deferToThread(read_until, client, b"0\r\n\r\n")
    assert dechunk(data) == (b"", b"", True)
    assert_error(
        await pair.ask(pair.follower, request("GET", "/cluster/hosts")), 503, "no_leader", retry=True
    )


@in_the_reactor
async def test_the_other_one_leads(pair: Pair) -> None:
    """Whoever led forwards to whoever leads."""
    await pair.ask(pair.follower, request("GET", "/cluster/hosts"))
    await pair.leader.role.deposed()
    pair.follower.role.elected(9)
    pair.record = LeaderRecord("h2", f"127.0.0.1:{pair.follower.port}", 9)
    for listener in pair._listeners:
        listener(pair.record)
    direct, through = [
        await pair.ask(node, request("GET", "/cluster/hosts")) for node in (pair.follower, pair.leader)
    ]
    assert (direct.status, direct.body) == (through.status, through.body) == (200, b"[]")


@in_the_reactor
async def test_two_that_take_each_other_for_the_leader(pair: Pair) -> None:
    """A request goes round no circle."""
    await pair.leader.role.deposed()
    got = await pair.ask(pair.follower, request("GET", "/cluster/hosts"))
    assert_error(got, 503, "no_leader", retry=True)


@in_the_reactor
async def test_the_leader_is_gone(pair: Pair) -> None:
    """A leader that does not listen is none."""
    await pair.leader.listening.stopListening()
    got = await pair.ask(pair.follower, request("POST", "/cluster/jobs", b"{}"))
    assert_error(got, 503, "no_leader", retry=True)


@in_the_reactor
async def test_a_leader_by_name(pair: Pair) -> None:
    """The leader may be known by a name."""
    pair.record = LeaderRecord("h1", f"localhost:{pair.leader.port}", 7)
    assert (await pair.ask(pair.follower, request("GET", "/cluster/hosts"))).body == b"[]"


@in_the_reactor
async def test_sessions_are_refused(pair: Pair) -> None:
    """Hosts connect to the leader itself, and are told when they have not."""
    upgrade = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    client = pair.connect(pair.follower)
    client.sendall(request("GET", "/cluster/session", None, *upgrade, close=False))
    got = answer(await deferToThread(read_until, client, b"}"))
    assert_error(got, 503, "no_leader", retry=True)


# --- a leader that is played by a test ----------------------------------------


@in_the_reactor
async def test_the_leader_dies(pair: Pair) -> None:
    """When the leader's connections break, a stream ends with an error, and an answer is cut."""
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(30)
    pair.sockets.append(server)
    pair.record = LeaderRecord("h3", f"127.0.0.1:{server.getsockname()[1]}", 9)
    events = pair.connect(pair.follower)
    events.sendall(request("GET", "/cluster/events", close=False))
    first, _ = await deferToThread(server.accept)
    hosts = pair.connect(pair.follower)
    hosts.sendall(request("GET", "/cluster/hosts", close=False))
    second, _ = await deferToThread(server.accept)
    first.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    second.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n[1,")
    await deferToThread(read_until, events, b"\r\n\r\n")
    await deferToThread(read_until, hosts, b"[1,")
    first.close()
    second.close()
    told = await deferToThread(read_until, events, b"0\r\n\r\n")
    assert dechunk(told)[0].startswith(b"event: error\ndata: ")
    assert await deferToThread(read_to_the_break, hosts) == b""


@in_the_reactor
async def test_the_leader_hangs(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that takes a large batch only in part, or never answers, is not waited for for ever."""
    monkeypatch.setattr(forwarded, "ANSWER_WITHIN", 0.3)
    server = socket.create_server(("127.0.0.1", 0))
    pair.sockets.append(server)
    pair.record = LeaderRecord("h3", f"127.0.0.1:{server.getsockname()[1]}", 9)
    batch = json.dumps({"h3": [a_job("a")]}).encode() + b" " * (MAX_BODY_BYTES - 1000)
    got = await pair.ask(pair.follower, request("POST", "/cluster/jobs", batch, MINIMAL))
    error = assert_error(got, 504, "timeout", retry=True)
    assert error["detail"] == {"outcomes": {"a": "unknown"}}


# --- large answers ------------------------------------------------------------

LARGE = 20 * 1024 * 1024


@in_the_reactor
async def test_a_large_answer(pair: Pair) -> None:
    """A large answer comes through whole while little of it is kept here."""
    pair.add_large_host("f1", LARGE)
    reading = deferToThread(exchange, pair.connect(pair.follower), request("GET", "/cluster/hosts"))
    most = 0
    while not reading.called:
        most = max(most, pair.buffered(pair.follower))
        await deferLater(pair.reactor, 0.001)
    through = answer(await reading)
    direct = await pair.ask(pair.leader, request("GET", "/cluster/hosts"))
    assert len(through.body) > LARGE - 200_000
    assert through.body == direct.body
    assert 0 < most < 1024 * 1024


@in_the_reactor
async def test_a_slow_reader_of_a_large_answer(pair: Pair) -> None:
    """One who does not read holds back the leader; one who leaves ends all that was done for it."""
    pair.add_large_host("f1", LARGE)
    client = pair.connect(pair.follower, receive_buffer=4096)
    client.sendall(request("GET", "/cluster/hosts"))
    await until(pair.reactor, lambda: pair.buffered(pair.follower) > 0, "the buffers to fill")
    seen: list[int] = []

    def settled() -> bool:
        seen.append(pair.buffered(pair.follower))
        return len(seen) > 10 and len(set(seen[-10:])) == 1

    await until(pair.reactor, settled, "the buffers not to change any more")
    assert seen[-1] < 1024 * 1024
    other = await pair.ask(pair.follower, request("GET", "/cluster/hosts?jobs=none"))
    assert other.status == 200
    reading = deferToThread(client.recv, 1 << 20)
    assert await reading
    client.close()
    await until(pair.reactor, lambda: pair.buffered(pair.leader) == 0, "the leader to be told")
    assert len(pair.follower.streams) == 0


@in_the_reactor
async def test_many_at_once(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than are forwarded at a time are told to come again, and connections are used again."""
    monkeypatch.setattr(forwarding, "MAX_FORWARDED", 4)
    streams = [await begin_events(pair) for _ in range(4)]
    got = await pair.ask(pair.follower, request("GET", "/cluster/hosts"))
    assert_error(got, 429, "ratelimited", retry=True)
    for stream in streams:
        stream.close()
    await until(pair.reactor, lambda: not len(pair.leader.streams), "the leader to be told")
    for _ in range(3):
        got = await pair.ask(pair.follower, request("GET", "/cluster/hosts"))
        assert got.status == 200
    to_leader = [each for each in pair.reactor.getReaders() if "HTTPChannel" in repr(each)]
    assert len(to_leader) == 1
