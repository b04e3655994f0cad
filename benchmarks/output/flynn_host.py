"""flynn-host as a reader of output, over plain sockets."""

from __future__ import annotations

import http.client
import json
import socket
import time

from attrs import frozen

from benchmarks.host_process import HostProcess
from benchmarks.output.contents import Content
from flynnhost.attach_frames import PROTOCOL, Data, Exited, Failed, Frame, reading_host

PIECE = 1 << 20
_STDOUT_AND_STDERR_AS_THEY_COME = 1 | 2 | 16
_JSON = {"Content-Type": "application/json"}


@frozen
class Host:
    """Asks a flynn-host for what jobs write, and counts it."""

    process: HostProcess

    def run(self, job_id: str, content: Content) -> None:
        """Have it run a job."""
        connection = self.process.connection()
        connection.request("PUT", f"/host/jobs/{job_id}", content.wire_job(job_id), _JSON)
        _answered(connection.getresponse(), connection)

    def container_of(self, job_id: str) -> str:
        """The container of a job that has ended, or will soon."""
        while True:
            connection = self.process.connection()
            connection.request("GET", f"/host/jobs/{job_id}")
            active = json.loads(_answered(connection.getresponse(), connection))
            if active.get("status", 0) > 1:
                return str(active["container_id"])
            time.sleep(0.05)

    def log(self, job_id: str, query: str = "", accept: str = "text/plain") -> int:
        """How many bytes its log has."""
        connection = self.process.connection()
        try:
            connection.request("GET", f"/host/jobs/{job_id}/log{query}", headers={"Accept": accept})
            answer = connection.getresponse()
            count, buffer = 0, bytearray(PIECE)
            while size := answer.readinto(buffer):
                count += size
            return count
        finally:
            connection.close()

    def attach(self, job_id: str, content: Content) -> int:
        """Attach to a job that is not there yet, have it run, and count what it writes to its end."""
        with socket.create_connection(("127.0.0.1", self.process.port), timeout=60) as connection:
            body = json.dumps({"job_id": job_id, "flags": _STDOUT_AND_STDERR_AS_THEY_COME}).encode()
            connection.sendall(
                b"POST /attach HTTP/1.1\r\nHost: flynn\r\nConnection: upgrade\r\nUpgrade: %b\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                % (PROTOCOL, len(body), body)
            )
            received = _after_head(connection)
            self.run(job_id, content)
            return _count(connection, received)


def _after_head(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += _some(connection)
    head, _, rest = received.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        raise RuntimeError(f"attaching was answered with {received!r}")
    return rest


def _count(connection: socket.socket, received: bytes) -> int:
    reader, count = reading_host(), 0
    while True:
        for frame in reader.feed(received):
            if isinstance(frame, Data):
                count += len(frame.data)
            elif _is_last(frame):
                return count
        received = _some(connection)


def _is_last(frame: Frame) -> bool:
    if isinstance(frame, Failed):
        raise RuntimeError(f"attaching failed: {frame.reason}")
    return isinstance(frame, Exited)


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(PIECE)
    if not data:
        raise RuntimeError("the connection ended too early")
    return data


def _answered(answer: http.client.HTTPResponse, connection: http.client.HTTPConnection) -> bytes:
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"answered with {answer.status}: {body[:500]!r}")
    return body
