"""Output on its way from the engine to a receiver that pauses, stops or fails."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define, field
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from flynnhost.containers.log_stream import LogStream
from flynnhost.docker_frames import FrameDecoder
from flynnhost.errors import EngineRefused, EngineUnavailable
from flynnhost.testing.container_rig import OutputRecorder
from tests.conftest import LoggedFailures

DONE = Failure(ConnectionDone())


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@define(eq=False)
class FakeTransport:
    paused: bool = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False


@define(eq=False)
class FakeLine:
    """A connection that holds the transport back until somebody wants what comes."""

    early: bytes = b""
    transport: FakeTransport = field(factory=lambda: FakeTransport(paused=True))

    def deliver(self, protocol: Any) -> None:
        protocol.makeConnection(self.transport)
        if self.early:
            protocol.dataReceived(self.early)
        self.transport.resumeProducing()


@define(eq=False)
class Transfer:
    """A stream with all that is around it."""

    early: bytes = b""
    framed: bool = True
    receiver: OutputRecorder = field(factory=OutputRecorder)
    aborted: int = 0
    line: FakeLine = field(init=False)
    stream: LogStream = field(init=False)

    def __attrs_post_init__(self) -> None:
        line: Any = FakeLine(self.early)
        self.line = line
        decoder = FrameDecoder() if self.framed else None
        self.stream = LogStream(line.deliver, self.receiver, self._abort, decoder)
        self.receiver.stream = self.stream

    def _abort(self) -> None:
        self.aborted += 1


def test_to_the_end() -> None:
    """All comes on its stream, then the end, and the connection is let go."""
    transfer = Transfer()
    transfer.stream.begin()
    transfer.stream.dataReceived(frame(1, b"a") + frame(1, b"b") + frame(2, b"c"))
    transfer.stream.connectionLost(DONE)
    assert transfer.receiver.pieces == [(1, b"ab"), (2, b"c")]
    assert (transfer.receiver.ended, transfer.receiver.error, transfer.aborted) == (True, None, 1)


def test_without_frames() -> None:
    """The output of a terminal is passed on as it is."""
    transfer = Transfer(framed=False)
    transfer.stream.begin()
    transfer.stream.dataReceived(b"anything")
    transfer.stream.connectionLost(DONE)
    assert transfer.receiver.pieces == [(1, b"anything")]
    assert transfer.receiver.error is None


@pytest.mark.parametrize("reason", [DONE, Failure(ConnectionLost())])
def test_broken_off(reason: Failure) -> None:
    """Output that ends in the midst of a frame is incomplete, however it ends."""
    transfer = Transfer()
    transfer.stream.begin()
    transfer.stream.dataReceived(frame(1, b"whole") + frame(1, b"half")[:-1])
    transfer.stream.connectionLost(reason)
    assert transfer.receiver.of(1) == b"wholehal"
    assert isinstance(transfer.receiver.error, EngineUnavailable)


def test_connection_lost() -> None:
    """Output whose connection is lost is incomplete even between frames."""
    transfer = Transfer()
    transfer.stream.begin()
    transfer.stream.connectionLost(Failure(ConnectionLost()))
    assert isinstance(transfer.receiver.error, EngineUnavailable)


def test_error_of_the_engine() -> None:
    """What the engine says went wrong is the end, with its words."""
    transfer = Transfer()
    transfer.stream.begin()
    transfer.stream.dataReceived(frame(1, b"a") + frame(3, b"Error grabbing logs: EOF\n") + frame(1, b"b"))
    assert transfer.receiver.pieces == [(1, b"a")]
    assert repr(transfer.receiver.error) == repr(EngineRefused("Error grabbing logs: EOF"))
    assert transfer.aborted == 1


def test_nonsense() -> None:
    """What is not framed as it should be ends the transfer."""
    transfer = Transfer()
    transfer.stream.begin()
    transfer.stream.dataReceived(b"no frames at all")
    transfer.stream.dataReceived(b"more of it")
    assert isinstance(transfer.receiver.error, EngineRefused)
    assert transfer.aborted == 1


def test_pause_in_the_midst() -> None:
    """A pause takes effect at once, also on what has come already, and on the transport."""
    transfer = Transfer(receiver=OutputRecorder(pause_at_first=True))
    transfer.stream.begin()
    transfer.stream.dataReceived(frame(1, b"a") + frame(2, b"b") + frame(1, b"c"))
    transfer.stream.connectionLost(DONE)
    assert transfer.receiver.pieces == [(1, b"a")]
    assert transfer.line.transport.paused
    assert not transfer.receiver.ended
    transfer.stream.resumeProducing()
    assert transfer.receiver.pieces == [(1, b"a"), (2, b"b"), (1, b"c")]
    assert transfer.receiver.ended


def test_pause_while_it_begins() -> None:
    """A pause at the first output is not undone by the rest of the beginning."""
    transfer = Transfer(early=frame(1, b"a"), receiver=OutputRecorder(pause_at_first=True))
    transfer.stream.begin()
    assert transfer.line.transport.paused
    transfer.stream.resumeProducing()
    assert not transfer.line.transport.paused


def test_pause_before_it_begins() -> None:
    """A pause before the beginning holds back everything."""
    transfer = Transfer(early=frame(1, b"a"))
    transfer.stream.pauseProducing()
    transfer.stream.begin()
    assert transfer.receiver.pieces == []
    assert transfer.line.transport.paused
    transfer.stream.resumeProducing()
    assert transfer.receiver.pieces == [(1, b"a")]


def test_pause_again_while_it_resumes() -> None:
    """A receiver may pause with every piece."""
    transfer = Transfer(receiver=OutputRecorder(pause_at_first=True))
    transfer.stream.begin()
    transfer.stream.dataReceived(frame(1, b"a") + frame(2, b"b") + frame(1, b"c"))
    transfer.receiver.pause_at_first = True
    transfer.stream.resumeProducing()
    assert transfer.receiver.pieces == [(1, b"a"), (2, b"b")]
    assert transfer.line.transport.paused


def test_stop_before_it_begins() -> None:
    """A stream that was stopped does not begin."""
    transfer = Transfer(early=frame(1, b"a"))
    transfer.stream.stopProducing()
    transfer.stream.begin()
    assert (transfer.receiver.pieces, transfer.aborted) == ([], 1)


def test_stop_in_the_midst() -> None:
    """A receiver may stop from within, and then hears nothing more."""

    class Stops(OutputRecorder):
        def output_received(self, stream: int, data: bytes) -> None:
            super().output_received(stream, data)
            assert self.stream is not None
            self.stream.stopProducing()

    transfer = Transfer(receiver=Stops())
    transfer.stream.begin()
    transfer.stream.dataReceived(frame(1, b"a") + frame(2, b"b"))
    transfer.stream.dataReceived(frame(1, b"c"))
    transfer.stream.connectionLost(DONE)
    transfer.stream.stopProducing()
    assert transfer.receiver.pieces == [(1, b"a")]
    assert (transfer.receiver.ended, transfer.aborted) == (False, 1)


def test_receiver_fails(logged_failures: LoggedFailures) -> None:
    """A receiver that raises is let go, and the connection with it."""

    class Fails(OutputRecorder):
        def output_received(self, stream: int, data: bytes) -> None:
            raise RuntimeError("broken")

    transfer = Transfer(receiver=Fails())
    transfer.stream.begin()
    transfer.stream.dataReceived(frame(1, b"a"))
    assert transfer.aborted == 1
    assert len(logged_failures.flush(RuntimeError)) == 1
