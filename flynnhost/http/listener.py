"""Listens for the HTTP API."""

from __future__ import annotations

import ipaddress
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from flynnhost.errors import InvalidField
from flynnhost.http.open_streams import OpenStreams

BACKLOG = 4096
"""Connections that may wait to be accepted, unless a description says it; all hosts come at once when
a leader dies, and one that finds no place tries again ever later. Linux takes as many as it lets anyone.
"""

_WITH_BACKLOG = ("tcp", "tcp4", "tcp6", "ssl", "unix")


@define(eq=False)
class Listener(Service):
    """Serves a site on endpoints, and ends its streams properly when it stops.

    :param descriptions: Twisted endpoint descriptions.
    """

    log = Logger()

    _reactor: Any
    _descriptions: tuple[str, ...]
    _site: IProtocolFactory
    _streams: OpenStreams
    _ports: list[IListeningPort] = field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        for description in self._descriptions:
            self._endpoint(description)

    @property
    def port(self) -> int:
        """The number of the first TCP port that is listened on; 0 when there is none."""
        numbers = (getattr(port.getHost(), "port", 0) for port in self._ports)
        return next((number for number in numbers if number), 0)

    @property
    def addresses(self) -> list[str]:
        """Where it listens: ``ADDRESS:PORT``, or the path of a socket."""
        return [_in_words(port.getHost()) for port in self._ports]

    def privilegedStartService(self) -> None:
        """Listen, before the rights to do so are given up.

        :raises SystemExit: with the reason in one line, when an address can't be had.
        """
        for description in self._descriptions:
            refused: list[Failure] = []
            # Not raised from within: a Deferred would keep it, and the host go on without an ear.
            self._endpoint(description).listen(self._site).addCallbacks(self._listening, refused.append)
            if refused:
                raise SystemExit(f"flynn-host: can't listen on {description}: {_reason(refused[0].value)}")

    def stopService(self) -> Deferred[None]:
        """Take no more connections, and end the streams. Fires when both is done."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        ports, self._ports = self._ports, []
        await DeferredList([maybeDeferred(port.stopListening) for port in ports])
        await self._streams.close_all()

    def _endpoint(self, description: str) -> Any:
        try:
            return serverFromString(self._reactor, _with_backlog(description))
        except (ValueError, TypeError, KeyError, IndexError) as e:
            raise InvalidField("listen", f"{description!r} is not an endpoint description: {e}") from e

    def _listening(self, port: IListeningPort) -> None:
        self._ports.append(port)
        address = port.getHost()
        self.log.info("The API listens on {address}", address=address)
        host = getattr(address, "host", None)
        if host is not None and not ipaddress.ip_address(host).is_loopback:
            self.log.warn(
                "ANYONE WHO REACHES {address} CAN RUN ANYTHING ON THIS HOST: the API asks for no credentials."
                " Listen on loopback (--listen tcp:1113:interface=127.0.0.1), or let a firewall protect it",
                address=address,
            )


def _with_backlog(description: str) -> str:
    kind = description.partition(":")[0]
    if kind not in _WITH_BACKLOG or ":backlog=" in description:
        return description
    return f"{description}:backlog={BACKLOG}"


def _in_words(address: object) -> str:
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    if host is not None and port is not None:
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    name = getattr(address, "name", None)
    if isinstance(name, bytes):
        return name.decode(errors="backslashreplace")
    return str(address)


def _reason(error: BaseException | None) -> str:
    if isinstance(error, CannotListenError):
        error = error.socketError
    return getattr(error, "strerror", None) or str(error)
