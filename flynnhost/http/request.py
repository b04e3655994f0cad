"""Requests with bounds: on the size of a body, and on the time it may take to come."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.web.http_headers import Headers
from twisted.web.server import Request

from flynnhost.http.connection import cut
from flynnhost.http.errors import error_body

MAX_BODY_BYTES = 16 * 1024 * 1024

#: Seconds for a whole request to come in.
RECEIVE_WITHIN = 120

#: Seconds that are given to a refused client to notice.
_LINGER = 10


class BoundedRequest(Request):
    """Refuses a body that is too large as soon as that is known, without keeping it.

    The refusal is written while the client still sends. What it sends from then on is
    read and dropped for a while, since closing a connection with unread data would take the
    answer from the client. The method and path are not needed for that: the
    connection is of no use afterwards.
    """

    defaultContentType = None

    _received = 0
    _refused = False
    _deadline: IDelayedCall | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._call_later(RECEIVE_WITHIN)

    def gotLength(self, length: int | None) -> None:
        """The headers are complete; None if the length is not known yet."""
        self.content = self._body = BytesIO()
        if length is not None and length > MAX_BODY_BYTES:
            # Whoever waits for leave to send the body must not get it.
            self.requestHeaders.removeHeader(b"Expect")
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """A part of the body came."""
        self._received += len(data)
        if self._received > MAX_BODY_BYTES:
            self._refuse()
        if not self._refused:
            self._body.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The request is complete."""
        if self._refused:
            self.channel.loseConnection()
            return
        self._cancel_deadline()
        super().requestReceived(command, path, version)

    def process(self) -> None:
        """Answer the request."""
        if self.path == b"*":
            self.path = b"/*"  # or Twisted would answer without our resources
        super().process()

    def connectionLost(self, reason: Any) -> None:
        """The client is gone."""
        self._cancel_deadline()
        super().connectionLost(reason)

    def _refuse(self) -> None:
        if self._refused:
            return
        self._refused = True
        self.content = self._body = BytesIO()
        body = error_body("too_large", f"the body must not be larger than {MAX_BODY_BYTES} bytes")
        headers = Headers(
            {
                b"Content-Type": [b"application/json"],
                b"Content-Length": [str(len(body)).encode()],
                b"Connection": [b"close"],
            }
        )
        self.channel.writeHeaders(b"HTTP/1.1", b"413", b"Request Entity Too Large", headers)
        self.channel.write(body)
        self._call_later(_LINGER)

    def _call_later(self, seconds: float) -> None:
        self._cancel_deadline()
        site: Any = self.channel.site  # type: ignore[attr-defined]
        self._deadline = site.reactor.callLater(seconds, cut, self)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None
