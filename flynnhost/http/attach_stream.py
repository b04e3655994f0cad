"""A connection that speaks Flynn's attach protocol, with a job or a command at its other end."""

from __future__ import annotations

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from flynnhost.attach_frames import (
    ATTACHED,
    PROTOCOL,
    WAITING,
    BadFrame,
    Data,
    Frame,
    FrameReader,
    Resize,
    Signal,
    data_frame,
    data_head,
    error_frame,
    exit_frame,
    reading_client,
)
from flynnhost.gate import Gate
from flynnhost.http.connection import is_broken, probe
from flynnhost.http.outflow import CLOSE_WITHIN, FLUSH_WITHIN
from flynnhost.http.upgrade import allow_half_closed
from flynnhost.interfaces import IAttachment

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: %b\r\n\r\n" % PROTOCOL

MAX_FRAME = 64 * 1024
"""How much data goes into a frame."""

TAKEN_WITHIN = 60.0
"""Seconds that a client has to take the last of what was written."""

LOOK_EVERY = 30.0
"""Seconds between two looks at whether a client is there that nothing is read from."""


@implementer(IPushProducer)
@define(eq=False)
class AttachStream:
    """An ``IAttachClient`` at the other end of a connection."""

    _clock: IReactorTime
    _attachment: IAttachment | None = field(init=False, default=None)
    _transport: Any = field(init=False, default=None)
    _early: list[bytes] = field(init=False, factory=lambda: [HEAD])
    _reader: FrameReader = field(init=False, factory=reading_client)
    _no_more_typed: bool = field(init=False, default=False)
    _half_closed: bool = field(init=False, default=False)
    _held_back: bool = field(init=False, default=False)
    _ending: bool = field(init=False, default=False)
    _stopping: bool = field(init=False, default=False)
    _gone: bool = field(init=False, default=False)
    _deadline: IDelayedCall | None = field(init=False, default=None)
    _next_look: IDelayedCall | None = field(init=False, default=None)
    _over: Gate = field(init=False, factory=Gate)

    def begin(self, transport: Any, attachment: IAttachment, received: bytes) -> None:
        """Take over a connection.

        :param transport: of Twisted's, with no producer.
        :param attachment: to what the client is attached.
        :param received: what the client has sent already.
        """
        self._transport, self._attachment = transport, attachment
        probe(transport)
        if ITCPTransport.providedBy(transport):
            allow_half_closed(transport, self)
        early, self._early = self._early, []
        transport.write(b"".join(early))
        transport.registerProducer(self, True)
        if self._ending:
            self._close(TAKEN_WITHIN)
            return
        attachment.registerProducer(_Typing(self), True)
        if received:
            self.data_received(received)

    # --- IAttachClient --------------------------------------------------------

    def waiting(self) -> None:
        """See ``IAttachClient``."""
        self._send(WAITING)

    def attached(self) -> None:
        """See ``IAttachClient``."""
        self._send(ATTACHED)

    def output_received(self, stream: int, data: bytes) -> None:
        """See ``IAttachClient``."""
        if len(data) <= MAX_FRAME:
            self._send(data_head(stream, len(data)), data)
            return
        for start in range(0, len(data), MAX_FRAME):
            self._send(data_frame(stream, data[start : start + MAX_FRAME]))

    def stream_ended(self, stream: int) -> None:
        """See ``IAttachClient``."""
        self._send(data_frame(stream, b""))

    def exited(self, status: int) -> None:
        """See ``IAttachClient``."""
        self._send(exit_frame(status))
        self._end()

    def finished(self) -> None:
        """See ``IAttachClient``."""
        self._end()

    def failed(self, reason: str) -> None:
        """See ``IAttachClient``."""
        self._send(error_frame(reason))
        self._end()

    # --- IOpen ----------------------------------------------------------------

    def when_over(self) -> Deferred[None]:
        """See ``IOpen.when_over``."""
        return self._over.wait()

    def close(self) -> None:
        """See ``IOpen.close``."""
        self._stopping = True
        self._detach()
        self._send(error_frame("this host is stopping"))
        self._end(CLOSE_WITHIN)

    # --- from the client ------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        if self._ending or self._attachment is None:
            return
        try:
            for frame in self._reader.feed(data):
                self._take(frame, self._attachment)
        except BadFrame as e:
            self._detach()
            self.failed(f"what the client sent is not the attach protocol: {e}")

    def _take(self, frame: Frame, attachment: IAttachment) -> None:
        match frame:
            case Data(data=b""):
                self._no_more_typed = True
                attachment.end_input()
            case Data(data=data):
                attachment.write(data)
            case Signal(number=number):
                attachment.signal(number)
            case Resize(height=height, width=width):
                attachment.resize(height, width)

    def input_ended(self) -> None:
        """See ``IHalfClosed``. Only one who has said that it types nothing more may still be there."""
        self._half_closed = True
        if self._ending:
            self._transport.loseConnection()
        elif self._no_more_typed and self._reader.between_frames:
            self._look()
        else:
            self._transport.abortConnection()

    def output_ended(self) -> None:
        """See ``IHalfClosed``. The client is to close its direction too."""
        if self._stopping:
            self._transport.loseConnection()
        else:
            self._set_deadline(FLUSH_WITHIN)

    def connection_lost(self, _reason: Failure) -> None:
        """There is no connection any more."""
        if self._gone:
            return
        self._gone = True
        for call in (self._deadline, self._next_look):
            if call is not None and call.active():
                call.cancel()
        self._detach()
        self._over.open()

    def hold_back(self, held_back: bool) -> None:
        """Have the client send nothing for now, or go on."""
        self._held_back = held_back
        if self._transport is None or self._half_closed or self._gone:
            return
        if held_back:
            self._transport.pauseProducing()
            self._look()
        else:
            self._transport.resumeProducing()

    # --- IPushProducer --------------------------------------------------------

    def pauseProducing(self) -> None:
        """The client does not take more for now."""
        if self._attachment is not None and not self._ending:
            self._attachment.pauseProducing()

    def resumeProducing(self) -> None:
        """The client took all there was."""
        if self._attachment is not None and not self._ending:
            self._attachment.resumeProducing()

    def stopProducing(self) -> None:
        """There is no connection any more, of which ``connection_lost`` tells next."""

    # --- to the client --------------------------------------------------------

    def _send(self, *parts: bytes) -> None:
        if self._ending or self._gone:
            return
        if self._transport is None:
            self._early.extend(parts)
        else:
            self._transport.writeSequence(parts)

    def _end(self, within: float = TAKEN_WITHIN) -> None:
        """Close the connection when the client has taken everything."""
        if self._gone or (self._ending and within >= TAKEN_WITHIN):
            return
        was_ending, self._ending = self._ending, True
        if self._transport is None:
            return
        if was_ending:
            self._set_deadline(within)
        else:
            self._close(within)

    def _close(self, within: float) -> None:
        # A producer would keep the connection open until it was unregistered.
        self._transport.unregisterProducer()
        self._set_deadline(within)
        if self._half_closed or not ITCPTransport.providedBy(self._transport):
            self._transport.loseConnection()
            return
        # What the client still sends is read: closing a connection on it would take from the
        # client what is on its way there.
        self.hold_back(False)
        self._transport.loseWriteConnection()

    def _set_deadline(self, within: float) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        if not self._gone:
            self._deadline = self._clock.callLater(within, self._transport.abortConnection)

    def _detach(self) -> None:
        attachment, self._attachment = self._attachment, None
        if attachment is not None:
            attachment.detach()

    def _look(self) -> None:
        """Look from time to time whether the client is there, while nothing is read from it."""
        if self._next_look is None:
            self._next_look = self._clock.callLater(LOOK_EVERY, self._look_now)

    def _look_now(self) -> None:
        self._next_look = None
        if not self._held_back and not self._half_closed:
            return
        if is_broken(self._transport):
            self._transport.abortConnection()
        else:
            self._look()


@implementer(IPushProducer)
@define(eq=False)
class _Typing:
    """What a client types, as a producer for its process."""

    _stream: AttachStream

    def pauseProducing(self) -> None:
        self._stream.hold_back(True)

    def resumeProducing(self) -> None:
        self._stream.hold_back(False)

    def stopProducing(self) -> None:
        """The process takes no more; what comes is dropped."""
        self._stream.hold_back(False)
