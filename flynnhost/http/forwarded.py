"""One request that another host answers: what it answers is passed on as it comes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web._newclient import RequestNotSent  # public only in its documentation
from twisted.web.client import (
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from twisted.web.server import Request

from flynnhost.errors import FellBehind, FlynnHostError, NoLeader, NotReady, TookTooLong
from flynnhost.http.errors import answer_failure
from flynnhost.http.media import EVENTS
from flynnhost.http.outflow import CLOSE_WITHIN, FLUSH_WITHIN
from flynnhost.http.relay import Relay
from flynnhost.http.sse import KEEP_ALIVE, KEEP_ALIVE_AFTER, error_frame
from flynnhost.http.wire_errors import DECODING_ERRORS
from flynnhost.interfaces import ILeaderRecord

ANSWER_WITHIN = 45.0
"""Seconds until an answer must begin: more than the leader has to commit a batch."""

SILENT_FOR = KEEP_ALIVE_AFTER + 15.0
"""Seconds without a byte, not even a keep-alive, after which the leader is given up."""

STALL_LIMIT = 60.0
"""Seconds without progress after which a reader is given up."""

#: These concern a connection, not the request or its answer.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

_NOT_SENT = (ConnectError, ConnectingCancelledError, DNSLookupError, RequestNotSent)
_BROKEN = (RequestTransmissionFailed, RequestGenerationFailed, ResponseFailed, ConnectionClosed)
_NO_BODY = (204, 304)


@define(eq=False)
class Forwarded:
    """A request on its way to the leader and back, as an ``IOpen``.

    :param leader: who is asked.
    :param body: of the request.
    """

    log = Logger()

    _clock: IReactorTime
    _request: Request
    leader: ILeaderRecord
    _body: bytes
    _relay: Relay = field(init=False)
    _asked: Deferred[IResponse] | None = field(init=False, default=None)
    _given_up: FlynnHostError | None = field(init=False, default=None)
    _transport: Any = field(init=False, default=None)
    _paused: bool = field(init=False, default=False)
    _is_events: bool = field(init=False, default=False)
    _tail: bytes = field(init=False, default=b"\n\n")
    _patience: IDelayedCall | None = field(init=False, default=None)
    _closing: IDelayedCall | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._relay = Relay(self._request, self._clock)

    def start(self, asked: Deferred[IResponse]) -> None:
        """Wait for the answer and pass it on, unless the client leaves.

        :param asked: the request to the leader; cancelled when nobody waits for it any more.
        """
        self._asked = asked
        self._relay.start()
        self._relay.when_over().addCallback(lambda _: self._is_over())
        self._be_patient(ANSWER_WITHIN, self._no_answer)
        asked.addCallbacks(self._answered, self._unanswered).addErrback(self._broke_down)

    def when_over(self) -> Deferred[None]:
        """See ``IOpen.when_over``."""
        return self._relay.when_over()

    def close(self) -> None:
        """See ``IOpen.close``. What has an end of its own is given a while to come to it."""
        if self._asked is None and self._is_events:
            self._end_events(None, CLOSE_WITHIN)
        elif self._closing is None:
            self._closing = self._clock.callLater(
                CLOSE_WITHIN, self._give_up, NotReady("the host is stopping")
            )

    def leader_changed(self) -> None:
        """Whoever was asked leads no longer: what it might say does not count."""
        self._give_up(NoLeader(f"host {self.leader.id} leads no longer"))

    # --- before the answer ----------------------------------------------------

    def _answered(self, response: IResponse) -> None:
        self._asked = None
        if not self._relay.stopped:
            self._begin(response)
        response.deliverBody(_Body(self))

    def _begin(self, response: IResponse) -> None:
        request, headers = self._request, self._request.responseHeaders
        request.setResponseCode(response.code, response.phrase)
        for name, values in response.headers.getAllRawHeaders():
            if name.lower() not in HOP_BY_HOP:
                headers.setRawHeaders(name, values)
        sized = response.length is not UNKNOWN_LENGTH and response.code not in _NO_BODY
        if sized and request.method != b"HEAD":
            request.setHeader(b"Content-Length", str(response.length).encode())
        kind = headers.getRawHeaders(b"content-type", [b""])[-1]
        self._is_events = kind.startswith(EVENTS.encode())
        request.write(b"")

    def _unanswered(self, failure: Failure) -> None:
        self._asked = None
        if self._relay.stopped:
            if not failure.check(CancelledError, FlynnHostError, *_NOT_SENT, *_BROKEN):
                self.log.failure("While asking the leader for one who has left", failure)
            return
        body = answer_failure(self._request, Failure(self._given_up or self._reason(failure)))
        self._relay.write(body)
        self._relay.finish()

    def _reason(self, failure: Failure) -> BaseException:
        """What to tell of a request that failed."""
        who = f"the leader {self.leader.id}"
        if failure.check(*_NOT_SENT):
            return NoLeader(f"{who} can't be reached at {self.leader.addr}: {failure.getErrorMessage()}")
        if failure.check(*_BROKEN):
            return self._lost(NoLeader(f"the connection to {who} broke"))
        return failure.value or Exception()

    def _no_answer(self) -> None:
        self._give_up(TookTooLong(f"the leader {self.leader.id} did not answer within {ANSWER_WITHIN:g} s"))

    def _lost(self, reason: FlynnHostError) -> FlynnHostError:
        """What to tell when the leader may have done what was asked, or not."""
        if self._request.method != b"POST":
            return reason
        outcomes = [(job_id, "unknown") for job_id in _job_ids(self._body)]
        return TookTooLong(
            f"{reason}: the jobs may be accepted or not. The same batch, sent again, is not done twice",
            outcomes,
        )

    def _broke_down(self, failure: Failure) -> None:
        self.log.failure("While passing on an answer of the leader", failure)
        self._relay.cut()

    # --- the answer -----------------------------------------------------------

    def flows(self, transport: Any) -> None:
        """The body of the answer comes from this transport."""
        self._transport = transport
        self._be_patient(SILENT_FOR, self._silent)
        self._relay.attach(self)

    def received(self, data: bytes) -> None:
        """Some of it came."""
        if self._transport is None:
            return
        if self._patience is not None and not self._paused:
            self._patience.reset(SILENT_FOR)
        self._tail = (self._tail + data[-3:])[-3:]
        self._relay.write(data)

    def ended(self, reason: Failure) -> None:
        """Nothing more will come."""
        if self._transport is None:
            return
        self._transport = None
        self._relay.source_ended()
        if reason.check(ResponseDone):
            self._relay.finish()
        else:
            self._break_off(NoLeader(f"the connection to the leader {self.leader.id} broke"))

    def pauseProducing(self) -> None:
        """See ``ISource``."""
        if self._transport is not None:
            self._paused = True
            self._transport.pauseProducing()
            self._be_patient(STALL_LIMIT, self._break_off, FellBehind())

    def resumeProducing(self) -> None:
        """See ``ISource``."""
        if self._transport is not None:
            self._paused = False
            self._be_patient(SILENT_FOR, self._silent)
            self._transport.resumeProducing()

    def stopProducing(self) -> None:
        """See ``ISource``."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.stopProducing()

    def _silent(self) -> None:
        self._break_off(NoLeader(f"nothing was heard of the leader {self.leader.id} for {SILENT_FOR:g} s"))

    # --- the end --------------------------------------------------------------

    def _give_up(self, reason: FlynnHostError) -> None:
        if self._asked is not None:
            self._given_up = self._lost(reason)
            self._asked.cancel()
        else:
            self._break_off(reason)

    def _break_off(self, reason: FlynnHostError) -> None:
        """End the answer so that the client sees that it is not whole."""
        if self._is_events:
            self._end_events(reason, FLUSH_WITHIN)
        else:
            self._relay.cut()

    def _end_events(self, reason: FlynnHostError | None, within: float) -> None:
        """End a stream, with an error if there is one; in the middle of an event, cut it."""
        if not self._tail.endswith((b"\n\n", b"\n" + KEEP_ALIVE)):
            self._relay.cut()
            return
        if reason is not None:
            self._relay.write(error_frame(reason))
        self._relay.finish(within)

    def _is_over(self) -> None:
        for call in (self._patience, self._closing):
            _cancel(call)
        self._patience = self._closing = None
        if self._asked is not None:
            self._asked.cancel()

    def _be_patient(self, seconds: float, then: Any, *arguments: Any) -> None:
        _cancel(self._patience)
        self._patience = self._clock.callLater(seconds, self._out_of_patience, then, arguments)

    def _out_of_patience(self, then: Any, arguments: Any) -> None:
        self._patience = None
        then(*arguments)


class _Body(Protocol):
    """Takes the body of an answer."""

    def __init__(self, forwarded: Forwarded) -> None:
        self._forwarded = forwarded

    def connectionMade(self) -> None:
        self._forwarded.flows(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self._forwarded.received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._forwarded.ended(reason)


class _Identified(msgspec.Struct):
    id: str = ""


_batches = msgspec.json.Decoder(dict[str, list[_Identified]])


def _job_ids(body: bytes) -> Collection[str]:
    """The IDs of a batch's jobs; none if it is no batch."""
    try:
        return [job.id for jobs in _batches.decode(body).values() for job in jobs]
    except DECODING_ERRORS:
        return ()


def _cancel(call: IDelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()
