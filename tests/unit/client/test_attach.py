"""The client's end of an attachment: all that comes and goes, held back both ways, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from flynnhost.attach_frames import (
    ATTACHED,
    WAITING,
    Data,
    Resize,
    Signal,
    data_frame,
    error_frame,
    exit_frame,
)
from flynnhost.client import errors
from flynnhost.client.attach import Ended, Exit, Output, Ready
from flynnhost.client.client import Client
from tests.support.attach_server import AttachServer
from tests.support.served_host import in_the_reactor
from tests.support.waiting import until


@pytest.fixture
def server(clean_reactor: Any) -> Iterator[AttachServer]:
    server = AttachServer(clean_reactor)
    yield server
    pytest_twisted.blockon(Deferred.fromCoroutine(server.close()))


@pytest.fixture
def client(clean_reactor: Any, server: AttachServer) -> Client:
    return Client(clean_reactor, server.address)


@in_the_reactor
async def test_from_waiting_to_the_exit(client: Client, server: AttachServer) -> None:
    stream = await client.attach("j1", stdin=True, size=(24, 80))
    (host,) = server.clients
    assert host.head.startswith(b"POST /attach HTTP/1.1\r\n")
    assert b'{"job_id":"j1","flags":23,"height":24,"width":80}' in host.head
    host.send(WAITING, ATTACHED, data_frame(1, b"out"), data_frame(2, b"err"))
    host.send(data_frame(1, b""), exit_frame(3))
    host.end()
    assert [each async for each in stream] == [
        Ready(False),
        Ready(True),
        Output(1, b"out"),
        Output(2, b"err"),
        Ended(1),
        Exit(3),
    ]


@in_the_reactor
async def test_what_is_sent(client: Client, server: AttachServer, clean_reactor: Any) -> None:
    stream = await client.exec("j/1", ["sh"], tty=True, stdin=True, env={"A": "1"})
    (host,) = server.clients
    assert host.head.startswith(b"POST /host/jobs/j%2F1/exec HTTP/1.1\r\n")
    assert b'{"cmd":["sh"],"env":{"A":"1"},"tty":true,"stdin":true}' in host.head
    stream.write(b"typed")
    stream.write(b"")
    stream.signal(2)
    stream.resize(50, 100)
    stream.end_input()
    await until(clean_reactor, lambda: len(host.frames) == 4, "four frames")
    assert host.frames == [Data(0, b"typed"), Signal(2), Resize(50, 100), Data(0, b"")]
    stream.close()
    await until(clean_reactor, lambda: host.lost, "the end of the connection")
    stream.write(b"too late")
    stream.close()


@in_the_reactor
async def test_logs_only(client: Client, server: AttachServer) -> None:
    """Without the stream the ends of both streams are the end."""
    stream = await client.attach("j1", logs=True, stream=False, wait=False)
    (host,) = server.clients
    assert host.head.startswith(b"POST /attach?wait=false HTTP/1.1\r\n")
    host.send(ATTACHED, data_frame(1, b"x"), data_frame(1, b""), data_frame(2, b""))
    host.end()
    assert [each async for each in stream][-2:] == [Ended(1), Ended(2)]


@pytest.mark.parametrize(
    ("sent", "kind", "words"),
    [
        (error_frame("no such program"), errors.AttachFailed, "no such program"),
        (ATTACHED + data_frame(1, b"xyz")[:-1], errors.BrokenOff, "broke off"),
        (ATTACHED, errors.BrokenOff, "broke off"),
        (b"\xff", errors.BadAnswer, "no frame begins with 255"),
    ],
)
@in_the_reactor
async def test_bad_ends(
    sent: bytes, kind: type[Exception], words: str, client: Client, server: AttachServer
) -> None:
    stream = await client.attach("j1")
    server.clients[0].send(sent)
    server.clients[0].end()
    with pytest.raises(kind, match=words):
        async for _ in stream:
            pass


@in_the_reactor
async def test_lost_with_its_container(client: Client, server: AttachServer) -> None:
    """Its exit status is -1, which goes over the wire as an unsigned number."""
    stream = await client.attach("j1")
    server.clients[0].send(ATTACHED, exit_frame(-1))
    assert [await anext(stream), await anext(stream)] == [Ready(True), Exit(-1)]
    stream.close()


@in_the_reactor
async def test_nothing_is_read_that_nobody_takes(
    client: Client, server: AttachServer, clean_reactor: Any
) -> None:
    """The host is held back; all of it comes once it is read."""
    stream = await client.attach("j1")
    (host,) = server.clients
    total, piece = 64 << 20, b"x" * (1 << 20)
    host.send(ATTACHED)
    await anext(stream)
    for _ in range(total // len(piece)):
        host.send(data_frame(1, piece))
    host.send(exit_frame(0))
    await until(clean_reactor, lambda: stream._paused, "the pause")
    assert stream._size < 4 << 20
    received = 0
    async for each in stream:
        if isinstance(each, Output):
            received += len(each.data)
        else:
            assert each == Exit(0)
            break
    assert received == total
    stream.close()


@implementer(IPushProducer)
class Typing:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


@in_the_reactor
async def test_input_that_is_not_taken(client: Client, server: AttachServer, clean_reactor: Any) -> None:
    """Whoever writes is asked to pause, and may go on later."""
    stream = await client.attach("j1", stdin=True)
    (host,) = server.clients
    host.link.pauseProducing()
    typing = Typing()
    stream.register_producer(typing)
    while not typing.calls:
        stream.write(b"x" * (1 << 16))
    assert typing.calls == ["pause"]
    host.link.resumeProducing()
    await until(clean_reactor, lambda: "resume" in typing.calls, "leave to go on")
    stream.close()
    await until(clean_reactor, lambda: host.lost, "the end, which no producer delays")


REFUSAL = b'{"code":"object_not_found","message":"no job j1 on this host","retry":false}'


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (
            b"HTTP/1.1 404 No\r\nContent-Length: %d\r\n\r\n%b" % (len(REFUSAL), REFUSAL),
            errors.NotFound,
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", errors.BadAnswer),
        (b"SSH-2.0-x\r\n\r\n", errors.HostUnreachable),
    ],
)
@in_the_reactor
async def test_refusals(answer: bytes, kind: type[Exception], clean_reactor: Any) -> None:
    server = AttachServer(clean_reactor, answer)
    with pytest.raises(kind):
        await Client(clean_reactor, server.address).attach("j1")
    await server.close()


@in_the_reactor
async def test_closing_while_somebody_waits(client: Client, server: AttachServer) -> None:
    """There is nothing more to come."""
    stream = await client.attach("j1")
    waiting = Deferred.fromCoroutine(read_one(stream))
    stream.close()
    assert await waiting is None


async def read_one(stream: Any) -> Any:
    return await anext(stream, None)


@in_the_reactor
async def test_leaving(client: Client, server: AttachServer, clean_reactor: Any) -> None:
    """What was written before arrives, however much the host has to say."""
    stream = await client.attach("j1", stdin=True)
    (host,) = server.clients
    host.send(ATTACHED, data_frame(1, b"x" * 100_000))
    stream.write(b"last words")
    await stream.leave(clean_reactor, 5)
    await until(clean_reactor, lambda: host.lost, "the end of the connection")
    assert host.frames == [Data(0, b"last words")]
    stream.close()
