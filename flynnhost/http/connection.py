"""What Twisted's requests have, where its annotations leave it open."""

from __future__ import annotations

from typing import Any

from twisted.web.http import Request


def cut(request: Request) -> None:
    """Cut the connection at once, for the client to see that the answer is not whole."""
    transport: Any = request.transport
    transport.abortConnection()


def read_body(request: Request) -> bytes:
    """The whole body of a request that came in."""
    content: Any = request.content
    return bytes(content.read())
