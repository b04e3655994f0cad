"""What only real sockets show: buffers of the kernel, and connections closed with unread data."""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from flynnhost.http.open_streams import OpenStreams
from flynnhost.http.site import build_site
from flynnhost.http.sse import EventStream
from flynnhost.model import Artifact, ContainerConfig, EventKind, Job
from flynnhost.testing.agent import FakeAgent, FakeCluster, FakeLogStream
from flynnhost.testing.http_connection import dechunk
from tests.support.waiting import until

Test = Callable[..., Coroutine[Any, Any, None]]

EVENTS = b"GET /host/jobs HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n"
UPLOAD = b"PUT /host/jobs/j1 HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
TOO_LARGE = 40 * 1024 * 1024


class Served:
    """A host's API on a port of this machine."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.agent = FakeAgent(reactor)
        site, streams = build_site(reactor, self.agent, FakeCluster())
        self.streams: OpenStreams = streams
        self.port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self._sockets: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """A client."""
        client = socket.socket()
        client.settimeout(30)
        client.connect(("127.0.0.1", self.port.getHost().port))
        self._sockets.append(client)
        return client

    async def close(self) -> None:
        """Close everything."""
        await self.port.stopListening()
        for client in self._sockets:
            client.close()
        await until(self.reactor, lambda: not len(self.streams), "the streams to end")
        await until(self.reactor, self._all_closed, "the connections to close")

    def _all_closed(self) -> bool:
        return not any("HTTPChannel" in repr(reader) for reader in self.reactor.getReaders())


in_the_reactor: Callable[[Test], Test] = pytest_twisted.ensureDeferred


@pytest.fixture
def served(clean_reactor: Any) -> Iterator[Served]:
    served = Served(clean_reactor)
    yield served
    pytest_twisted.blockon(Deferred.fromCoroutine(served.close()))


def read_to_end(client: socket.socket) -> bytes:
    data = b""
    while more := client.recv(1 << 20):
        data += more
    return data


def send_all_then_read(client: socket.socket, head: bytes, body: bytes) -> bytes:
    client.sendall(head)
    client.sendall(body)
    return read_to_end(client)


@pytest.mark.parametrize("chunked", [True, False])
@in_the_reactor
async def test_too_large_for_a_client_that_sends_first(served: Served, chunked: bool) -> None:
    """A client that reads nothing before it has sent everything gets its answer all the same."""
    if chunked:
        head = UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n"
        body = (b"100000\r\n" + b"x" * 0x100000 + b"\r\n") * 40 + b"0\r\n\r\n"
    else:
        head = UPLOAD + b"Content-Length: %d\r\n\r\n" % TOO_LARGE
        body = b"x" * TOO_LARGE
    answer = await deferToThread(send_all_then_read, served.connect(), head, body)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b'"retry":false}')


@in_the_reactor
async def test_too_large_for_a_client_that_listens(served: Served) -> None:
    """A client that waits for leave to send its body is refused at once, and may leave."""
    client = served.connect()
    client.sendall(UPLOAD + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % TOO_LARGE)
    assert (await deferToThread(client.recv, 4096)).startswith(b"HTTP/1.1 413 ")


def read_until(client: socket.socket, ending: bytes) -> bytes:
    data = b""
    while not data.endswith(ending):
        more = client.recv(1 << 20)
        if not more:
            raise AssertionError(f"ended with {data[-100:]!r}")
        data += more
    return data


@in_the_reactor
async def test_slow_reader_of_events(served: Served) -> None:
    """One who does not read is told that it fell behind; one who reads gets everything."""
    slow = served.connect()
    slow.sendall(EVENTS)
    await until(served.reactor, lambda: len(served.streams) == 1, "the slow stream")
    (stream,) = served.streams._open
    quick = served.connect()
    quick.sendall(EVENTS)
    await until(served.reactor, lambda: len(served.streams) == 2, "the quick stream")
    reading = deferToThread(read_until, quick, b'"the end"}}\n\n\r\n')
    served.agent.accept([Job("j1", Artifact("busybox"), ContainerConfig(env={"A": "x" * 2000}))], 0)
    for _ in range(100):
        for _ in range(100):
            served.agent.run("j1")
        await deferLater(served.reactor, 0.005)
    served.agent.change("j1", EventKind.STOP, detail="the end", accepted_at=None)
    assert (await reading).count(b"\ndata: ") == 10_002
    assert isinstance(stream, EventStream) and not stream.listening
    data = await deferToThread(read_until, slow, b"\r\n0\r\n\r\n")
    content, rest, ended = dechunk(data.partition(b"\r\n\r\n")[2])
    assert ended and not rest
    assert content.endswith(b"\n\nevent: error\ndata: fell behind\n\n")


async def stays_paused(reactor: Any, stream: FakeLogStream) -> bool:
    """Whether a stream was told to pause, and not told to go on when the kernel had its share."""
    if stream.calls[-1:] == ["pause"]:
        await deferLater(reactor, 0.1)
    return stream.calls[-1:] == ["pause"]


@in_the_reactor
async def test_slow_reader_of_output(served: Served) -> None:
    """One who does not read holds back the engine, until it reads again."""
    served.agent.accept([Job("j1", Artifact("busybox"))], 0)
    client = served.connect()
    client.sendall(b"GET /host/jobs/j1/log HTTP/1.1\r\nHost: h\r\n\r\n")
    await until(served.reactor, lambda: served.agent.outputs, "the output to be asked for")
    (output,) = served.agent.outputs
    output.agreed.callback(output.stream)
    sent = 0
    while sent < TOO_LARGE and not await stays_paused(served.reactor, output.stream):
        output.receiver.output_received(1, b"x" * 0x100000)
        sent += 0x100000
    assert sent < TOO_LARGE
    output.stream.calls.clear()
    reading = deferToThread(read_until, client, b"\r\n0\r\n\r\n")
    await until(served.reactor, lambda: output.stream.calls == ["resume"], "the client to be read")
    output.receiver.output_ended(None)
    assert len(dechunk((await reading).partition(b"\r\n\r\n")[2])[0]) == sent
