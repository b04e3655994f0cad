"""One request to the engine, whose answer is read as fast as somebody wants it."""

from __future__ import annotations

from typing import Any, NoReturn, cast

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer, IReactorTime, ITCPTransport, ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from flynnhost.containers import translate
from flynnhost.containers.address import EngineAddress
from flynnhost.containers.chunks import BadChunk, ChunkDecoder
from flynnhost.containers.translate import Refusal, explanation
from flynnhost.errors import EngineRefused, EngineUnavailable, FlynnHostError

#: How much of a body is kept for who does not read it.
_KEPT_BYTES = 256 * 1024

_LONGEST_HEAD = 65_536
_LONGEST_EXPLANATION = 65_536


class _Factory(Factory):
    noisy = False
    protocol: Any

    def buildProtocol(self, _address: object) -> Protocol:
        return cast(Protocol, self.protocol)


@define(eq=False)
class Transfer(Protocol):
    """The answer to one request, on a connection of its own.

    Twisted's own client takes longer for each chunk than Docker does, which sends one for each
    line of output.
    """

    _request: bytes
    _status: int | None = field(init=False, default=None)
    _status_waiter: Deferred[int] | None = field(init=False, default=None)
    _decoder: ChunkDecoder | None = field(init=False, default=None)
    _left: int | None = field(init=False, default=None)
    _received: bytes = field(init=False, default=b"")
    _in_body: bool = field(init=False, default=False)
    _kept: list[bytes] = field(init=False, factory=list)
    _kept_bytes: int = field(init=False, default=0)
    _paused: bool = field(init=False, default=False)
    _over: bool = field(init=False, default=False)
    _error: Exception | None = field(init=False, default=None)
    _waiter: Deferred[bytes] | None = field(init=False, default=None)

    def status(self) -> Deferred[int]:
        """Fires with the status of the answer when its head has come.

        :raises EngineUnavailable: (as the Deferred's failure) when the connection broke before.
        """
        if self._status is not None:
            return succeed(self._status)
        if self._error is not None:
            return fail(self._error)
        self._status_waiter = Deferred(self._not_wanted)
        return self._status_waiter

    def read(self) -> Deferred[bytes]:
        """Fires with what comes next of the body, and with nothing at its end.

        :raises EngineUnavailable: (as the Deferred's failure) when the connection broke before.
        """
        if self._kept:
            data = b"".join(self._kept)
            self._kept.clear()
            self._kept_bytes = 0
            if self._paused and not self._over:
                self._paused = False
                self._producer().resumeProducing()
            return succeed(data)
        if self._error is not None:
            return fail(self._error)
        if self._over:
            return succeed(b"")
        self._waiter = Deferred(self._not_wanted)
        return self._waiter

    def close(self) -> None:
        """Break the connection off, if it is still there. May be called again."""
        if not self._over:
            self._end(EngineUnavailable("the transfer was ended"))
        self._kept.clear()
        if self.transport is not None:
            self._abort()

    def connectionMade(self) -> None:
        """Ask."""
        if self._over:
            self._abort()
            return
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpKeepAlive(True)
        cast(ITransport, self.transport).write(self._request)

    def dataReceived(self, data: bytes) -> None:
        """Some of the answer came."""
        if self._over:
            return
        if not self._in_body:
            data = self._take_head(self._received + data)
        if data and not self._over:
            self._take_body(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Nothing more will come."""
        if self._over:
            return
        proper = self._in_body and self._decoder is None and self._left is None
        self._end(
            None if proper and reason.check(ConnectionDone) else EngineUnavailable("the output broke off")
        )

    def _take_head(self, data: bytes) -> bytes:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            self._received = data
            if len(data) > _LONGEST_HEAD:
                self._make_no_sense("its head is too long")
            return b""
        self._received = b""
        self._in_body = True
        first, *lines = head.split(b"\r\n")
        words = first.split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            self._make_no_sense("it is not HTTP")
            return b""
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (x.partition(b":") for x in lines)
        }
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            self._decoder = ChunkDecoder()
        elif headers.get(b"content-length", b"").isdigit():
            self._left = int(headers[b"content-length"])
        self._status = int(words[1])
        waiter, self._status_waiter = self._status_waiter, None
        if waiter is not None:
            waiter.callback(self._status)
        if self._left == 0:
            self._end(None)
        return rest

    def _take_body(self, data: bytes) -> None:
        finished = False
        if self._decoder is not None:
            try:
                data = self._decoder.feed(data)
            except BadChunk as e:
                self._make_no_sense(str(e))
                return
            finished = self._decoder.finished
        elif self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
            finished = self._left == 0
        if data:
            self._pass_on(data)
        if finished and not self._over:
            self._end(None)

    def _pass_on(self, data: bytes) -> None:
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            waiter.callback(data)
            return
        self._kept.append(data)
        self._kept_bytes += len(data)
        if self._kept_bytes >= _KEPT_BYTES and not self._paused:
            self._paused = True
            self._producer().pauseProducing()

    def _make_no_sense(self, what: str) -> None:
        self._end(EngineRefused(f"the engine's answer makes no sense: {what}"))

    def _end(self, error: Exception | None) -> None:
        self._over, self._error = True, error
        self._received = b""
        if self.transport is not None:
            self._abort()
        waiter, self._waiter = self._waiter, None
        status_waiter, self._status_waiter = self._status_waiter, None
        if status_waiter is not None:
            status_waiter.errback(error or EngineUnavailable("no answer"))
        if waiter is not None and error is None:
            waiter.callback(b"")
        elif waiter is not None:
            waiter.errback(error)

    def _abort(self) -> None:
        cast(Any, self.transport).abortConnection()

    def _not_wanted(self, _waiter: Deferred[Any]) -> None:
        self._waiter = self._status_waiter = None

    def _producer(self) -> IPushProducer:
        return cast(IPushProducer, self.transport)


@define(eq=False)
class Transfers:
    """Makes requests to one engine, each on a connection of its own.

    :param timeout: how long the engine may take to answer.
    """

    _reactor: IReactorTime
    _address: EngineAddress
    _timeout: float

    async def get(self, path: str, reading: translate.Reading) -> Transfer:
        """Ask for what is at a path; returns when the engine has agreed.

        :param reading: what a refusal means.
        :raises EngineUnavailable: when there is no answer in time.
        """
        transfer = Transfer(
            f"GET {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        try:
            await self._connect(transfer)
            status = await self._bounded(transfer.status())
            if status != 200:
                refusal = Refusal(status, explanation(await self._bounded(_whole(transfer))))
                raise translate.understood(refusal, reading)
        except BaseException:
            transfer.close()
            raise
        return transfer

    async def _connect(self, transfer: Transfer) -> None:
        factory = _Factory()
        factory.protocol = transfer
        try:
            await self._address.endpoint(self._reactor, self._timeout).connect(factory)
        except (FlynnHostError, CancelledError):
            raise
        except Exception as e:
            raise EngineUnavailable(str(e) or type(e).__name__) from e

    def _bounded(self, waiting: Deferred[Any]) -> Deferred[Any]:
        return waiting.addTimeout(self._timeout, self._reactor, _no_answer)


def _whole(transfer: Transfer) -> Deferred[bytes]:
    return Deferred.fromCoroutine(_read_whole(transfer))


async def _read_whole(transfer: Transfer) -> bytes:
    body = b""
    while len(body) < _LONGEST_EXPLANATION and (data := await transfer.read()):
        body += data
    return body


def _no_answer(_result: object, timeout: float) -> NoReturn:
    raise EngineUnavailable(f"no answer in {timeout:g} s")
