"""A client for short commands: it asks, waits, and is done.

It is on the standard library, because Twisted and treq take a third of a second to be imported, which is
longer than most commands take for all the rest. Nothing that is imported here may import them.
"""

from __future__ import annotations

import http.client
import socket
import time
from types import TracebackType
from typing import TypeVar

from attrs import define, field

from flynnhost.client.address import HostAddress
from flynnhost.client.answers import Answer
from flynnhost.client.calls import Call
from flynnhost.client.errors import BadAnswer, HostUnreachable, NoAnswer

T = TypeVar("T")

CONNECT_WITHIN = 5.0
"""Seconds for a connection to be made."""

_PIECE = 1 << 16


@define(eq=False)
class BlockingClient:
    """Asks one host. Not for several threads at the same time.

    :param address: the host.
    :param within: seconds that no answer may take longer than, whatever the call says.
    """

    address: HostAddress
    _within: float | None = None
    _connection: http.client.HTTPConnection | None = field(init=False, default=None)

    def run(self, call: Call[T]) -> T:
        """What the host answers.

        :raises ClientError: see ``flynnhost.client.errors``.
        """
        return call.read(self.ask(call))

    def ask(self, call: Call[T]) -> Answer:
        """The answer as it comes.

        :raises HostUnreachable: when there is no connection, or none any more.
        :raises NoAnswer: when it takes too long.
        :raises BadAnswer: when it is no HTTP.
        """
        within = call.within if self._within is None else min(call.within, self._within)
        deadline = time.monotonic() + within
        kept = self._connection is not None
        try:
            return self._ask(call, deadline)
        except TimeoutError as e:
            self.close()
            raise NoAnswer(self.address.url, within) from e
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as e:
            self.close()
            # A connection that was kept may have been closed by the host meanwhile.
            if kept and call.method == "GET":
                return self.ask(call)
            raise HostUnreachable(self.address.url, _reason(e)) from e
        except OSError as e:
            self.close()
            raise HostUnreachable(self.address.url, _reason(e)) from e
        except http.client.HTTPException as e:
            self.close()
            raise BadAnswer(self.address.url, f"{type(e).__name__}: {e}".rstrip(": ")) from e

    def close(self) -> None:
        """Close the connection; another one is made when it is needed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, call: Call[T], deadline: float) -> Answer:
        connection = self._connection or self._connect(deadline)
        sock = connection.sock  # which the connection forgets as soon as an answer is to be its last
        _limit(sock, deadline)
        connection.request(call.method, call.target, call.body, call.all_headers())
        response = connection.getresponse()
        pieces: list[bytes] = []
        # Each piece within what is left of the time, for a host that sends one byte now and then.
        while _limit(sock, deadline) and (piece := response.read1(_PIECE)):
            pieces.append(piece)
        _check_whole(response)
        headers = {name.lower(): value for name, value in response.getheaders()}
        response.close()
        if response.will_close:
            self.close()
        return Answer(self.address.url, response.status, b"".join(pieces), headers)

    def _connect(self, deadline: float) -> http.client.HTTPConnection:
        within = min(CONNECT_WITHIN, max(0.001, deadline - time.monotonic()))
        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=within)
        try:
            connection.connect()
        except TimeoutError as e:
            raise HostUnreachable(self.address.url, f"no connection within {within:.2g} s") from e
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._connection = connection
        return connection


def _limit(sock: socket.socket, deadline: float) -> bool:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    sock.settimeout(left)
    return True


def _check_whole(response: http.client.HTTPResponse) -> None:
    # ``read1`` takes an early end for the end.
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)


def _reason(error: OSError) -> str:
    if isinstance(error, http.client.RemoteDisconnected):
        return "it has closed the connection without an answer"
    return error.strerror or str(error) or type(error).__name__
