"""An HTTP connection in memory, seen from the client: byte for byte, and as slow as wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import define, field, frozen
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorTime
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure


@frozen
class Answer:
    """A whole answer; the names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class _Transport(StringTransport):
    """A transport whose client reads when it likes, and which is cut like a real one: later."""

    def __init__(self, clock: IReactorTime, window: int) -> None:
        super().__init__(lenient=True)
        self._clock = clock
        self._window = window
        self._told = False
        self.protocol: Any = None
        self.aborted = False

    def write(self, data: bytes) -> None:
        if self._told:
            return
        super().write(data)
        if self.producer is not None and len(self.value()) > self._window:
            self.producer.pauseProducing()

    def writeSequence(self, data: list[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        super().loseConnection()
        self._clock.callLater(0, self.lost, ConnectionDone())

    def abortConnection(self) -> None:
        self.aborted = True
        self._clock.callLater(0, self.lost, ConnectionAborted())

    def lost(self, reason: Exception) -> None:
        if not self._told:
            self._told = True
            if self.producer is not None:
                self.producer.stopProducing()
            self.protocol.connectionLost(Failure(reason))


@define(eq=False)
class MemoryConnection:
    """A client's end.

    :param window: how many bytes the client lets wait before the server is held back.
    """

    _clock: IReactorTime
    _site: IProtocolFactory
    _window: int = 1 << 62
    _transport: _Transport = field(init=False)
    _protocol: IProtocol = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._transport = _Transport(self._clock, self._window)
        protocol: Any = self._site.buildProtocol(None)  # type: ignore[arg-type]
        self._protocol = self._transport.protocol = protocol
        protocol.makeConnection(self._transport)

    @property
    def closed(self) -> bool:
        """Whether the server has closed the connection in an orderly way."""
        return bool(self._transport.disconnecting) and not self._transport.aborted

    @property
    def aborted(self) -> bool:
        """Whether the server has cut the connection."""
        return self._transport.aborted

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        self._protocol.dataReceived(data)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        version: str = "HTTP/1.1",
    ) -> None:
        """Send a request, with the content type of JSON as Flynn's clients do."""
        fields = {"Host": "localhost:1113", "Content-Type": "application/json", **(headers or {})}
        if body is not None:
            fields["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.send(f"{method} {path} {version}\r\n{head}\r\n".encode("latin-1") + (body or b""))

    def received(self) -> bytes:
        """What came since the last time; the server may go on if it was held back."""
        data = bytes(self._transport.value())
        self._transport.clear()
        if len(data) > self._window and self._transport.producer is not None:
            self._transport.producer.resumeProducing()
        return data

    def answer(self) -> Answer:
        """What came since the last time, which must be one whole answer."""
        data = self.received()
        head, _, rest = data.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        if headers.get("transfer-encoding") == "chunked":
            rest = unchunked(rest)
        return Answer(int(status.split(" ")[1]), headers, rest)

    @property
    def held_back(self) -> bool:
        """Whether the server reads nothing for now."""
        return bool(self._transport.producerState == "paused")

    def lose(self) -> None:
        """The client goes away."""
        self._transport.lost(ConnectionLost())


def unchunked(data: bytes) -> bytes:
    """The content of a whole chunked body.

    :raises ValueError: if the last chunk is missing, or something comes after it.
    """
    content, rest, ended = dechunk(data)
    if not ended or rest:
        raise ValueError(f"not exactly one chunked body: {data[-50:]!r}")
    return content


def dechunk(data: bytes) -> tuple[bytes, bytes, bool]:
    """The content of as many chunks as there are, what comes after, and whether the last was there."""
    content: list[bytes] = []
    start = 0
    while start < len(data):
        line_end = data.index(b"\r\n", start)
        length = int(data[start:line_end], 16)
        start = line_end + 2
        if length == 0:
            return b"".join(content), data[start:].removeprefix(b"\r\n"), True
        content.append(data[start : start + length])
        start += length + 2
    return b"".join(content), b"", False
