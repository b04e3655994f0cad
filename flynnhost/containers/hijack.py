"""Connections to the engine that carry a stream, driven by the reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IReactorTime, ITCPTransport

from flynnhost.containers import translate
from flynnhost.containers.address import EngineAddress
from flynnhost.containers.translate import Reading, Refusal, explanation
from flynnhost.errors import EngineUnavailable
from flynnhost.upgrade import Upgraded, UpgradeFailed, UpgradeRefused, UpgradeRequest, upgrade

_JSON = (b"Content-Type", b"application/json")
_STREAM_TYPES = frozenset(
    (b"application/vnd.docker.raw-stream", b"application/vnd.docker.multiplexed-stream")
)


@define(eq=False)
class EngineLine:
    """A connection that the engine has agreed to use for a stream. Whoever has it ends it with ``abort``.

    See ``Upgraded`` for what is not explained here.
    """

    _upgraded: Upgraded
    _left: Callable[[EngineLine], None]

    @property
    def transport(self) -> Any:
        """To write to."""
        return self._upgraded.transport

    def deliver(self, protocol: IProtocol) -> None:
        """See ``Upgraded``."""
        self._upgraded.deliver(protocol)

    def something_came(self) -> Deferred[None]:
        """See ``Upgraded``."""
        return self._upgraded.something_came()

    def abort(self) -> None:
        """Break the connection off. May be called again, also when it is gone."""
        self._left(self)
        self._upgraded.abort()


@define(eq=False)
class EngineLines:
    """The streams of one engine.

    :param timeout: how long the engine may take to agree to one.
    """

    _reactor: IReactorTime
    _address: EngineAddress
    _timeout: float
    _open: set[EngineLine] = field(init=False, factory=set)
    _asking: set[Deferred[Upgraded]] = field(init=False, factory=set)
    _closed: bool = field(init=False, default=False)

    async def open(self, target: str, reading: Reading, body: bytes = b"") -> EngineLine:
        """Ask for a stream.

        :param reading: what a refusal means.
        :raises EngineUnavailable: also when all are closed.
        """
        endpoint = self._address.endpoint(self._reactor, self._timeout)
        headers = (_JSON,) if body else ()
        request = UpgradeRequest(target, b"tcp", headers=headers, body=body, stream_types=_STREAM_TYPES)
        if self._closed:
            raise _closing()
        asking = upgrade(self._reactor, endpoint, request, self._timeout)
        self._asking.add(asking)
        try:
            upgraded = await asking
        except UpgradeRefused as e:
            raise translate.understood(Refusal(e.status, explanation(e.body)), reading) from e
        except UpgradeFailed as e:
            raise EngineUnavailable(e.reason) from e
        finally:
            self._asking.discard(asking)
            if self._closed:
                raise _closing()
        line = EngineLine(upgraded, self._open.discard)
        self._open.add(line)
        if ITCPTransport.providedBy(line.transport):
            line.transport.setTcpKeepAlive(True)
            line.transport.setTcpNoDelay(True)
        return line

    def close(self) -> None:
        """Break off all streams, and open no more."""
        self._closed = True
        for asking in list(self._asking):
            asking.cancel()
        for line in list(self._open):
            line.abort()


def _closing() -> EngineUnavailable:
    return EngineUnavailable("the connection is closed for good")
