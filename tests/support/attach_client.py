"""A client of the attach protocol that blocks: the host is another process."""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Iterator
from typing import Any

from attrs import define, field

from flynnhost.attach_frames import (
    PROTOCOL,
    STDERR,
    STDIN,
    STDOUT,
    Data,
    Exited,
    Failed,
    Frame,
    FrameReader,
    State,
    data_frame,
    reading_host,
    resize_frame,
    signal_frame,
)
from tests.support.host_api import HostApi, WireJob

OUT, ERR, IN, LOGS, STREAM = 1, 2, 4, 8, 16
"""The flags of a request, as Flynn numbers them."""

_PIECE = 1 << 18


class Refused(Exception):
    """The host answered without an upgrade."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body!r}")
        self.status = status
        self.json = json.loads(body)


@define(eq=False)
class AttachClient:
    """A connection that was upgraded. Use it in a ``with``, or close it.

    :ivar ends: the streams that have ended so far.
    :ivar status: the exit status, once it has come.
    """

    connection: socket.socket
    _received: bytes
    _reader: FrameReader = field(init=False, factory=reading_host)
    _frames: deque[Frame] = field(init=False, factory=deque)
    ends: list[int] = field(init=False, factory=list)
    status: int = field(init=False, default=-1)

    @classmethod
    def attach(
        cls,
        api: HostApi,
        job: WireJob,
        flags: int = OUT | ERR | STREAM,
        query: str = "",
        within: float = 60.0,
        **more: Any,
    ) -> AttachClient:
        """Attach to a job.

        :raises Refused: when the host does not upgrade the connection.
        """
        return cls.open(api, f"/attach{query}", {"job_id": job["id"], "flags": flags, **more}, within)

    @classmethod
    def exec(cls, api: HostApi, job: WireJob, *cmd: str, within: float = 60.0, **more: Any) -> AttachClient:
        """Run a command in a job.

        :raises Refused: when the host does not upgrade the connection.
        """
        return cls.open(api, f"/host/jobs/{job['id']}/exec", {"cmd": list(cmd), **more}, within)

    @classmethod
    def open(cls, api: HostApi, path: str, content: Any, within: float = 60.0) -> AttachClient:
        """Post something that is to be answered with an upgrade.

        :param within: seconds in which something must come, again and again.
        """
        connection = socket.create_connection((api.address, api.port), timeout=within)
        body = json.dumps(content).encode()
        connection.sendall(
            b"POST %b HTTP/1.1\r\nHost: flynn\r\nConnection: upgrade\r\nUpgrade: %b\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (path.encode(), PROTOCOL, len(body), body)
        )
        return cls(connection, _after_head(connection))

    def __enter__(self) -> AttachClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Go away."""
        self.connection.close()

    # --- to the job -----------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Type something."""
        self.connection.sendall(data_frame(STDIN, data))

    def end_input(self) -> None:
        """Type the end of the input."""
        self.connection.sendall(data_frame(STDIN, b""))

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.connection.sendall(signal_frame(number))

    def resize(self, height: int, width: int) -> None:
        """Have a terminal of another size."""
        self.connection.sendall(resize_frame(height, width))

    # --- from the job ---------------------------------------------------------

    def wait_attached(self) -> bool:
        """Wait until it is attached. Returns whether it had to wait."""
        waited = False
        while True:
            frame = self.next()
            assert isinstance(frame, State), frame
            if frame.attached:
                return waited
            waited = True

    def next(self) -> Frame | None:
        """The next frame, or a part of it; None at the end."""
        while not self._frames:
            if not self._received and not (received := self.connection.recv(_PIECE)):
                assert self._reader.between_frames, "the connection ended in the middle of a frame"
                return None
            self._frames.extend(self._reader.feed(self._received or received))
            self._received = b""
        return self._frames.popleft()

    def frames(self) -> Iterator[Frame]:
        """All frames from now on, to the end."""
        while (frame := self.next()) is not None:
            yield frame

    def data(self) -> Iterator[Data]:
        """All data from now on, to the exit of the process, which must come."""
        for frame in self.frames():
            if isinstance(frame, Exited):
                self.status = frame.status
                return
            if isinstance(frame, Data) and not frame.data:
                self.ends.append(frame.stream)
            elif isinstance(frame, Data):
                yield frame
            else:
                assert isinstance(frame, State), frame
        raise AssertionError("the connection ended without an exit status")

    def until(self, wanted: bytes, stream: int = STDOUT) -> bytes:
        """Read until something has come on a stream. Returns all of that stream that has come by then."""
        seen = b""
        for frame in self.frames():
            assert not isinstance(frame, Exited | Failed), f"{frame} came before {wanted!r}, after {seen!r}"
            if isinstance(frame, Data) and frame.stream == stream:
                seen += frame.data
                if wanted in seen:
                    return seen
        raise AssertionError(f"the connection ended before {wanted!r} came, after {seen!r}")

    def rest(self) -> tuple[bytes, bytes, int]:
        """What still comes: stdout, stderr and the exit status."""
        pieces: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}
        for data in self.data():
            pieces[data.stream].append(data.data)
        return b"".join(pieces[STDOUT]), b"".join(pieces[STDERR]), self.status

    def failure(self) -> str:
        """Why it failed, which must be the last that comes."""
        *before, last = self.frames()
        assert isinstance(last, Failed), [*before, last]
        return last.reason


def _after_head(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(_PIECE)
        assert more, f"the connection ended after {received!r}"
        received += more
    head, _, rest = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"):
        raise Refused(int(head.split(b" ", 2)[1]), _body(connection, head, rest))
    headers = {line.lower() for line in head.split(b"\r\n")[1:]}
    assert {b"connection: upgrade", b"upgrade: " + PROTOCOL} <= headers, headers
    return rest


def _body(connection: socket.socket, head: bytes, rest: bytes) -> bytes:
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].partition(b":")[2])
    while len(rest) < length:
        more = connection.recv(_PIECE)
        assert more, f"the connection ended after {rest!r}"
        rest += more
    connection.close()
    return rest
