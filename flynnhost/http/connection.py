"""What Twisted's requests have, where its annotations leave it open."""

from __future__ import annotations

import select
import socket
from typing import Any

from twisted.internet.interfaces import ISystemHandle
from twisted.web.http import Request


def cut(request: Request) -> None:
    """Cut the connection at once, for the client to see that the answer is not whole."""
    transport: Any = request.transport
    transport.abortConnection()


def notice_loss(request: Request, seconds: float) -> None:
    """Have the system end the connection when the client has taken nothing for so long of what was sent.

    Its machine or the network may have gone without a word. Left alone, the system goes on for a
    quarter of an hour. A client that does not read is given up too: not for those who may take their time.
    """
    connection = _tcp(request.transport)
    if connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def probe(transport: Any) -> None:
    """Have the system find out within two minutes that the other side of a silent connection is gone."""
    connection = _tcp(transport)
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def is_broken(transport: Any) -> bool:
    """Whether the system knows that the connection is gone, which nobody hears of who does not read."""
    connection = _tcp(transport)
    if connection is None or connection.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(connection, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _tcp(transport: Any) -> socket.socket | None:
    handle = ISystemHandle(transport, None)
    connection = None if handle is None else handle.getHandle()
    if isinstance(connection, socket.socket) and connection.family in (socket.AF_INET, socket.AF_INET6):
        return connection
    return None


def read_body(request: Request) -> bytes:
    """The whole body of a request that came in."""
    content: Any = request.content
    return bytes(content.read())
