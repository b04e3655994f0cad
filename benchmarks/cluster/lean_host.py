"""A host that takes all jobs at once, and does as little as can be done for it.

It speaks the protocol of ``flynnhost.messages`` with a real leader, but finds what it must know in
the bytes where the leader writes it, instead of decoding them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from attrs import define, field

HANDSHAKE = (
    b"GET /cluster/session HTTP/1.1\r\nHost: leader\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

_CLOSE = 0x88
_REPORT_BYTES = 128 * 1024
_REPORT_JOBS = 200


class NotUnderstood(Exception):
    """The leader has sent something that is no part of the protocol."""


def frame(message: bytes) -> bytes:
    """A message as a client sends it: in one frame, with a mask of zeros, which leaves it as it is."""
    size = len(message)
    if size < 126:
        return struct.pack(">BBI", 0x82, 0x80 | size, 0) + message
    if size < 1 << 16:
        return struct.pack(">BBHI", 0x82, 0xFE, size, 0) + message
    return struct.pack(">BBQI", 0x82, 0xFF, size, 0) + message


@define(eq=False)
class Frames:
    """Takes a server's frames apart, each of which holds a whole message."""

    _rest: bytes = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete.

        :raises NotUnderstood: when the server closes the connection, or sends in another way.
        """
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        while end - at >= 2:
            start, size = at + 2, data[at + 1]
            if size >= 126:
                start += 2 if size == 126 else 8
                if end < start:
                    break
                size = int.from_bytes(data[at + 2 : start], "big")
            if end < start + size:
                break
            if data[at] != 0x82:
                raise NotUnderstood("the end" if data[at] == _CLOSE else f"a frame {data[at]:#x}")
            yield data[start : start + size]
            at = start + size
        self._rest = data[at:]


BEAT = frame(b'{"type":"beat"}')


@define(eq=False)
class LeanHost:
    """One host, through all its sessions.

    :param write: sends bytes on the present connection.
    :ivar count: how many jobs it has.
    :ivar term: of the leader that has let it in; 0 before the first.
    """

    host_id: str
    write: Callable[[bytes], None]
    count: int = field(init=False, default=0)
    term: int = field(init=False, default=0)
    # Jobs as they came, one or many together, separated by commas.
    _jobs: list[bytes] = field(init=False, factory=list)
    _session: int = field(init=False, default=0)
    _open: bool = field(init=False, default=False)
    _frames: Frames = field(init=False, factory=Frames)
    _coming: list[bytes] = field(init=False, factory=list)
    _kept: dict[bytes, list[bytes]] = field(init=False, factory=dict)

    def connected(self) -> None:
        """There is a new connection, and no other one any more."""
        self._session += 1
        self._open = False
        self._frames = Frames()
        self._coming, self._kept = [], {}
        self.write(HANDSHAKE)

    def received(self, data: bytes) -> None:
        """Some bytes came.

        :raises NotUnderstood: when the session is over.
        """
        if not self._open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end or b" 101 " not in head.partition(b"\r\n")[0]:
                raise NotUnderstood(head.decode("latin-1"))
            self._open = True
            self.write(frame(self._hello()))
        for message in self._frames.feed(data):
            self._happened(message)

    def beat(self) -> None:
        """Give a sign of life, if there is a session."""
        if self._open:
            self.write(BEAT)

    def _hello(self) -> bytes:
        return (
            f'{{"type":"hello","host_id":"{self.host_id}","instance":"{self.host_id}","boot":"1",'
            f'"session":{self._session},"highest_term":{self.term},"attributes":{{"zone":"z1"}}}}'
        ).encode()

    def _happened(self, message: bytes) -> None:
        kind = message[9 : message.index(b'"', 9)]
        if kind == b"submit":
            self._submitted(message)
        elif kind == b"take":
            number = _number(message, kind)
            self._take(number, self._kept.pop(number))
        elif kind == b"drop":
            del self._kept[_number(message, kind)]
        elif kind == b"welcome":
            self.term = int(message[message.index(b'"term":') + 7 : message.index(b',"beat"')])
            self._report()
        elif kind != b"beat":
            raise NotUnderstood(message[:200].decode(errors="replace"))

    def _submitted(self, message: bytes) -> None:
        self._coming.append(message[message.index(b"[") + 1 : message.rindex(b"]")])
        if not message.endswith(b'"last":true}'):
            return
        jobs, self._coming = self._coming, []
        number = _number(message, b"submit")
        if b'"check":true' in message[-40:]:
            self._kept[number] = jobs
            self.write(frame(b'{"type":"checked","request":%b}' % number))
        else:
            self._take(number, jobs)

    def _take(self, number: bytes, jobs: list[bytes]) -> None:
        count = sum(map(_count, jobs))
        self._jobs += jobs
        self.count += count
        statuses = b",".join([b"0"] * count)
        self.write(frame(b'{"type":"accepted","request":%b,"statuses":[%b]}' % (number, statuses)))

    def _report(self) -> None:
        some: list[bytes] = []
        size = count = 0
        for jobs in self._jobs:
            more = _count(jobs)
            if some and (size + len(jobs) > _REPORT_BYTES or count + more > _REPORT_JOBS):
                self.write(_report_of(some, last=False))
                some, size, count = [], 0, 0
            some.append(jobs)
            size += len(jobs)
            count += more
        self.write(_report_of(some, last=True))


def _count(jobs: bytes) -> int:
    """How many jobs there are, of which each has one ID, and nothing else called so."""
    return jobs.count(b'"id":"')


def _number(message: bytes, kind: bytes) -> bytes:
    start = len(b'{"type":"","request":') + len(kind)
    return message[start:].partition(b",")[0].rstrip(b"}")


def _report_of(jobs: list[bytes], *, last: bool) -> bytes:
    return frame(
        b'{"type":"report","jobs":[%b],"last":%b}' % (b",".join(jobs), b"true" if last else b"false")
    )
