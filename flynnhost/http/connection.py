"""What Twisted's requests have, where its annotations leave it open."""

from __future__ import annotations

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
    transport: Any = request.transport
    handle = ISystemHandle(transport, None)
    connection = None if handle is None else handle.getHandle()
    if isinstance(connection, socket.socket) and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def read_body(request: Request) -> bytes:
    """The whole body of a request that came in."""
    content: Any = request.content
    return bytes(content.read())
