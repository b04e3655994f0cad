"""A request whose connection is used for something else afterwards."""

from __future__ import annotations

from typing import Any

import h11
import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from flynnhost.testing.http_peer import MemoryPeer, PeerConnection
from flynnhost.upgrade import (
    LONGEST_REFUSAL,
    Upgraded,
    UpgradeFailed,
    UpgradeRefused,
    UpgradeRequest,
    upgrade,
)

AGREED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
RAW = b"application/vnd.docker.raw-stream"


class Reader(Protocol):
    """Remembers what came; ``pause`` makes it pause with each."""

    def __init__(self, pause: bool = False) -> None:
        self.data: list[bytes] = []
        self.ended: Failure | None = None
        self._pause = pause

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.data.append(data)
        if self._pause:
            self.transport.pauseProducing()  # type: ignore[attr-defined]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = reason


class Client:
    """A client and the server it speaks with."""

    def __init__(self, within: float = 5.0, **request: Any) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.peer = MemoryPeer(self.reactor)
        self.results: list[Any] = []
        asked = UpgradeRequest("/attach?stream=1", b"tcp", **request)
        endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", 1)
        self.asking: Deferred[Upgraded] = upgrade(self.reactor, endpoint, asked, within)
        self.asking.addBoth(self.results.append)

    def accept(self) -> PeerConnection:
        return self.peer.accept()

    def answer(self, data: bytes) -> PeerConnection:
        connection = self.accept()
        connection.send(data)
        return connection

    @property
    def upgraded(self) -> Upgraded:
        (result,) = self.results
        assert isinstance(result, Upgraded), result
        return result

    @property
    def error(self) -> BaseException:
        (result,) = self.results
        assert isinstance(result, Failure), result
        return result.value or AssertionError()


def test_what_is_asked() -> None:
    """The request says what the connection is wanted for, with the headers and the body given."""
    client = Client(headers=((b"Content-Type", b"application/json"),), body=b"{}", host="there:1")
    assert client.accept().received() == (
        b"POST /attach?stream=1 HTTP/1.1\r\n"
        b"Host: there:1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 2\r\n"
        b"Content-Type: application/json\r\n\r\n{}"
    )


def test_handed_over() -> None:
    """What came with the answer and afterwards reaches the protocol in order, and so does the end."""
    client = Client()
    connection = client.answer(AGREED + b"\x01with the answer")
    assert (client.upgraded.status, dict(client.upgraded.headers)[b"upgrade"]) == (101, b"tcp")
    assert connection.paused
    connection.send(b", before")
    reader = Reader()
    client.upgraded.deliver(reader)
    assert not connection.paused
    connection.send(b"after")
    assert reader.data == [b"\x01with the answer, before", b"after"]
    assert reader.ended is None
    connection.lose()
    assert reader.ended is not None


def test_writing() -> None:
    """The transport is there to write to, before anything is read."""
    client = Client()
    connection = client.answer(AGREED)
    connection.received()
    client.upgraded.transport.write(b"typed")
    assert connection.received() == b"typed"


def test_any_cuts() -> None:
    """The answer may come byte by byte, after an interim one."""
    client = Client()
    connection = client.accept()
    for byte in b"HTTP/1.1 100 Continue\r\n\r\n" + AGREED + b"data":
        connection.send(bytes([byte]))
    reader = Reader()
    client.upgraded.deliver(reader)
    assert reader.data == [b"data"]


def test_pause_with_the_first_data() -> None:
    """A protocol that pauses at once stays paused."""
    client = Client()
    connection = client.answer(AGREED + b"data")
    client.upgraded.deliver(Reader(pause=True))
    assert connection.paused


def test_lost_before_it_is_handed_over() -> None:
    """Data and the end are kept for the protocol."""
    client = Client()
    client.answer(AGREED + b"data").lose()
    reader = Reader()
    client.upgraded.deliver(reader)
    assert reader.data == [b"data"]
    assert reader.ended is not None


def test_plain_answer_that_is_a_stream() -> None:
    """Some servers answer 200 and go on with the stream; its media type tells."""
    client = Client(stream_types=(RAW,))
    connection = client.answer(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n\r\ndata" % RAW)
    reader = Reader()
    client.upgraded.deliver(reader)
    connection.send(b"more")
    assert reader.data == [b"data", b"more"]


def test_plain_answer() -> None:
    """A 200 of any other type is a refusal."""
    client = Client(stream_types=(RAW,))
    client.answer(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nok")
    assert isinstance(client.error, UpgradeRefused)


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 9\r\n\r\nno such 1",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nno \r\n6\r\nsuch 1\r\n0\r\n\r\n",
    ],
)
def test_refused(framing: bytes) -> None:
    """A refusal has the status and the body, and the connection is cut."""
    client = Client()
    connection = client.answer(b"HTTP/1.1 404 Not Found\r\nX-A: b\r\n" + framing)
    error = client.error
    assert isinstance(error, UpgradeRefused)
    assert (error.status, error.body, dict(error.headers)[b"x-a"]) == (404, b"no such 1", b"b")
    assert "404" in str(error)
    assert connection.aborted


def test_refused_to_the_end_of_the_connection() -> None:
    """A body without a length ends with the connection."""
    client = Client()
    client.answer(b"HTTP/1.1 500 Oops\r\n\r\nwrong").lose()
    assert isinstance(client.error, UpgradeRefused)
    assert client.error.body == b"wrong"


def test_refused_at_length() -> None:
    """Of a body that does not end, the beginning is enough."""
    client = Client()
    connection = client.answer(b"HTTP/1.1 500 Oops\r\n\r\n" + b"x" * LONGEST_REFUSAL)
    assert isinstance(client.error, UpgradeRefused)
    assert len(client.error.body) == LONGEST_REFUSAL
    assert connection.aborted
    connection.send(b"more")


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 204 OK\r\n" + b"X: y\r\n" * 10_000, b"\x00" * 99_999]
)
def test_nonsense(answer: bytes) -> None:
    """What is no answer is an error, at whatever length."""
    client = Client()
    connection = client.answer(answer)
    assert isinstance(client.error, UpgradeFailed)
    assert connection.aborted


def test_no_connection() -> None:
    """Who can't connect hears why."""
    client = Client()
    client.peer.refuse()
    assert isinstance(client.error, UpgradeFailed)
    assert "refused" in str(client.error)


def test_lost_before_the_answer() -> None:
    """A connection that ends too early is an error."""
    client = Client()
    client.answer(AGREED[:20]).lose()
    assert isinstance(client.error, UpgradeFailed)


@pytest.mark.parametrize("sent", [b"H", AGREED[:20], b"HTTP/1.1 404 Not Found\r\n\r\nbe"])
def test_too_late(sent: bytes) -> None:
    """Nobody waits longer than allowed, and the connection is cut."""
    client = Client(within=5)
    connection = client.answer(sent)
    client.reactor.advance(4.9)
    assert not client.results
    client.reactor.advance(0.2)
    assert isinstance(client.error, UpgradeFailed)
    assert "5 s" in str(client.error)
    assert connection.aborted
    assert not client.reactor.getDelayedCalls()


def test_too_late_to_connect() -> None:
    """The time to connect counts."""
    client = Client(within=5)
    client.reactor.advance(5.1)
    assert isinstance(client.error, UpgradeFailed)
    assert "5 s" in str(client.error)


@pytest.mark.parametrize("connected", [False, True])
def test_cancelled(connected: bool) -> None:
    """Who cancels gets that, and the connection is cut."""
    client = Client()
    connection = client.accept() if connected else None
    client.asking.cancel()
    assert isinstance(client.error, CancelledError)
    assert connection is None or connection.aborted
    client.reactor.advance(1)
    assert not client.reactor.getDelayedCalls()


def test_aborted() -> None:
    """Who has the connection can break it off."""
    client = Client()
    connection = client.answer(AGREED)
    client.upgraded.abort()
    assert connection.aborted


def test_not_to_be_sent() -> None:
    """A request that HTTP has no form for is not sent."""
    client = Client(headers=((b"X", b"a\r\nb"),))
    assert isinstance(client.error, h11.LocalProtocolError)
    assert not client.peer.waiting
