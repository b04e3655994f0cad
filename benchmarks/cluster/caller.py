"""A scheduler that posts one batch after the other, and does as little as can be done for it."""

from __future__ import annotations

import socket
import time

from attrs import define, field, frozen

WITHIN = 120.0
"""Seconds that any part of an answer may take to come."""

_CHUNK = 1 << 20
_END = b"\r\n0\r\n\r\n"
"""The end of a chunked answer in JSON, which has no line breaks of its own."""


class Refused(Exception):
    """The leader did not answer with 200."""


@frozen
class Answer:
    """What came back.

    :param seconds: from the first byte that was sent to the last one that came.
    :param size: bytes of the answer, its headers among them.
    """

    status: int
    head: bytes
    body: bytes
    seconds: float
    size: int


@define(eq=False)
class Caller:
    """One connection that is kept, and does one request at a time."""

    _port: int
    _socket: socket.socket = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port), WITHIN)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def post_jobs(self, body: bytes, *, minimal: bool = True) -> Answer:
        """Have jobs committed.

        :param minimal: whether the answer is to be of these jobs only.
        :raises Refused: when they were not.
        """
        answer = self.ask("POST", "/cluster/jobs", body, "Prefer: return=minimal\r\n" if minimal else "")
        if answer.status != 200:
            raise Refused(f"{answer.status}: {answer.body[:500].decode(errors='replace')}")
        return answer

    def ask(self, method: str, path: str, body: bytes = b"", headers: str = "") -> Answer:
        """Send a request and read the answer; of a long one, only the first megabyte is kept."""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: leader\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{headers}\r\n"
        )
        began = time.perf_counter()
        self._socket.sendall(head.encode() + body)
        return self._answer(began)

    def _answer(self, began: float) -> Answer:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        size = len(data)
        lines = head.lower().split(b"\r\n")
        length = next((int(line[16:]) for line in lines if line.startswith(b"content-length: ")), None)
        if length is not None:
            while len(body) < length:
                body += self._more()
            size = len(head) + 4 + length
        else:
            tail = b"\r\n" + body[-len(_END) :]
            while not tail.endswith(_END):
                more = self._more()
                size += len(more)
                if len(body) < _CHUNK:
                    body += more
                tail = (tail + more)[-len(_END) :]
        return Answer(int(head[9:12]), head, body, time.perf_counter() - began, size)

    def _more(self) -> bytes:
        data = self._socket.recv(_CHUNK)
        if not data:
            raise Refused("the leader has closed the connection")
        return data
