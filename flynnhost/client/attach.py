"""Being at a job's standard streams."""

from __future__ import annotations

from collections import deque
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from flynnhost.attach_frames import (
    PROTOCOL,
    STDERR,
    STDIN,
    STDOUT,
    BadFrame,
    Data,
    Exited,
    Failed,
    Frame,
    FrameReader,
    State,
    data_frame,
    reading_host,
    resize_frame,
    signal_frame,
)
from flynnhost.client.address import HostAddress
from flynnhost.client.answers import Answer
from flynnhost.client.errors import AttachFailed, BadAnswer, BrokenOff, ClientError, HostUnreachable
from flynnhost.client.reasons import reason_of
from flynnhost.client.streams import Attachable
from flynnhost.upgrade import UpgradeFailed, UpgradeRefused, UpgradeRequest, upgrade

__all__ = ["STDERR", "STDOUT", "AttachStream", "Ended", "Exit", "Happening", "Output", "Ready", "open_attach"]

_FULL = 512 * 1024
"""How many bytes may wait to be read before the connection is paused."""

_LOST = 1 << 31

_LEAVE_WITHIN = 2.0


@frozen
class Ready:
    """The host has answered: all is connected, or the job is not there yet."""

    attached: bool


@frozen
class Output:
    """Some bytes of ``STDOUT`` or ``STDERR``."""

    stream: int
    data: bytes


@frozen
class Ended:
    """Nothing more comes of this stream."""

    stream: int


@frozen
class Exit:
    """The process has ended, -1 if it was lost with its container."""

    status: int


Happening = Ready | Output | Ended | Exit


@define(eq=False, slots=False)
class AttachStream(Protocol):
    """What is at a process's streams: ``async for happening in stream``. Close it after use.

    It takes no more from the host than is read. What is written can be held back: register a push producer.

    :param name: the host, for errors.
    :param until_exit: whether all ends with the exit of the process.
    """

    _name: str
    _until_exit: bool = True
    _reader: FrameReader = field(init=False, factory=reading_host)
    _waiting: deque[Happening] = field(init=False, factory=deque)
    _size: int = field(init=False, default=0)
    _paused: bool = field(init=False, default=False)
    _wanted: Deferred[None] | None = field(init=False, default=None)
    _over: bool = field(init=False, default=False)
    _complete: bool = field(init=False, default=False)
    _ends: int = field(init=False, default=0)
    _error: ClientError | None = field(init=False, default=None)
    _lost: bool = field(init=False, default=False)
    _gone: Deferred[None] | None = field(init=False, default=None)

    def __aiter__(self) -> AttachStream:
        return self

    async def __anext__(self) -> Happening:
        """What happens next; the last is the ``Exit``, if that was asked for.

        :raises AttachFailed: when the host can't attach, or not to the end.
        :raises BrokenOff: when the connection broke.
        """
        while not (self._waiting or self._over):
            self._wanted = Deferred(self._forget)
            await self._wanted
        if self._waiting:
            return self._take()
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    # --- to the process -----------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send the process some input."""
        if data:
            self._send(data_frame(STDIN, data))

    def end_input(self) -> None:
        """Nothing more is written: the process reads the end of its input."""
        self._send(data_frame(STDIN, b""))

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        self._send(signal_frame(number))

    def resize(self, height: int, width: int) -> None:
        """The terminal has this size now, in characters."""
        self._send(resize_frame(height, width))

    def register_producer(self, producer: IPushProducer) -> None:
        """Pause and resume this one as the host takes input."""
        if not self._over:
            self._transport.registerProducer(producer, True)

    def unregister_producer(self) -> None:
        """Pause and resume it no more."""
        if self._transport is not None:
            self._transport.unregisterProducer()

    async def leave(self, clock: IReactorTime, within: float = _LEAVE_WITHIN) -> None:
        """Go away when all that was written has arrived; the process runs on. ``close`` does not wait for
        that: what was written just before is lost if the host had something to send.

        :param within: seconds after which that is waited for no more.
        """
        self._finish(None)
        self._waiting.clear()
        if self._transport is None or self._lost:
            return
        self._transport.unregisterProducer()
        if self._paused:
            self._transport.resumeProducing()  # what still comes is dropped
        self._transport.loseWriteConnection()
        self._gone = Deferred()
        self._gone.addTimeout(within, clock, onTimeoutCancel=lambda *_: None)
        await self._gone
        self._transport.abortConnection()

    def close(self) -> None:
        """Go away; the process runs on. May be called again."""
        self._finish(None)
        self._waiting.clear()
        if self._transport is not None:
            self._transport.unregisterProducer()  # which the connection would wait for
            self._transport.loseConnection()

    # --- from the host --------------------------------------------------------------

    def connectionMade(self) -> None:
        """The host has agreed."""
        self._transport.setTcpNoDelay(True)
        self._transport.setTcpKeepAlive(True)

    def dataReceived(self, data: bytes) -> None:
        """Some bytes came."""
        if self._over:
            return
        try:
            for frame in self._reader.feed(data):
                self._received(frame)
        except BadFrame as e:
            self._finish(BadAnswer(self._name, str(e)))
            self._transport.loseConnection()
        if self._size >= _FULL and not self._paused:
            self._paused = True
            self._transport.pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end, or a break."""
        expected = self._complete or (not self._until_exit and self._ends and self._reader.between_frames)
        self._finish(None if expected else BrokenOff(f"the connection to {self._name} broke off"))
        self._lost = True
        gone, self._gone = self._gone, None
        if gone is not None and not gone.called:
            gone.callback(None)

    @property
    def _transport(self) -> Any:
        return self.transport

    def _received(self, frame: Frame) -> None:
        match frame:
            case Data(stream, b""):
                self._ends += 1
                self._waiting.append(Ended(stream))
            case Data(stream, data):
                self._size += len(data)
                self._waiting.append(Output(stream, data))
            case State(attached):
                self._waiting.append(Ready(attached))
            case Exited(status):
                self._complete = True
                self._waiting.append(Exit(-1 if status >= _LOST else status))
            case Failed(reason):
                self._finish(AttachFailed(reason))
                self._transport.loseConnection()

    def _take(self) -> Happening:
        happening = self._waiting.popleft()
        if isinstance(happening, Output):
            self._size -= len(happening.data)
            if self._paused and self._size < _FULL // 2 and not self._over:
                self._paused = False
                self._transport.resumeProducing()
        return happening

    def _send(self, data: bytes) -> None:
        if not self._over:
            self._transport.write(data)

    def _finish(self, error: ClientError | None) -> None:
        if not self._over:
            self._over = True
            self._error = error
            self._wake()

    def _wake(self) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            wanted.callback(None)

    def _forget(self, _: object) -> None:
        self._wanted = None


async def open_attach(
    reactor: Any, address: HostAddress, request: Attachable, *, until_exit: bool = True
) -> AttachStream:
    """Ask a host for an attachment.

    :param until_exit: whether it was asked for to the exit of the process.
    :raises ClientError: see ``flynnhost.client.errors``.
    """
    asked = UpgradeRequest(
        request.target,
        PROTOCOL,
        host=address.netloc,
        headers=((b"Content-Type", b"application/json"),),
        body=request.body,
    )
    endpoint = HostnameEndpoint(reactor, address.host, address.port, timeout=request.within)
    try:
        upgraded = await upgrade(reactor, endpoint, asked, request.within)
    except UpgradeRefused as e:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in e.headers}
        answer = Answer(address.url, e.status, e.body, headers)
        if e.status == 200:
            raise BadAnswer(address.url, "it has not upgraded the connection") from e
        raise answer.error() from e
    except UpgradeFailed as e:
        raise HostUnreachable(address.url, reason_of(e.__cause__ or e)) from e
    stream = AttachStream(address.url, until_exit)
    upgraded.deliver(stream)
    return stream
