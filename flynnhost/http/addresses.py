"""Where the HTTP APIs of other hosts are."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from flynnhost.errors import NotReady

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def endpoint_at(reactor: Any, addr: str, within: float) -> IStreamClientEndpoint:
    """The way to an address as it stands in records.

    :param addr: ``HOST:PORT``, an IPv6 address in brackets.
    :param within: seconds that a connection may take to be made.
    :raises NotReady: when it is no address.
    """
    host, _, port = addr.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if port.isascii() and port.isdecimal():
        try:
            version = ipaddress.ip_address(host).version
        except ValueError:
            if _NAME.fullmatch(host):
                return HostnameEndpoint(reactor, host, int(port), timeout=within)
        else:
            # Not as a name: looking that up would take a thread, also for what is none.
            kind = TCP4ClientEndpoint if version == 4 else TCP6ClientEndpoint
            return kind(reactor, host, int(port), timeout=within)
    raise NotReady(f"{addr!r} is not where a leader can be")
