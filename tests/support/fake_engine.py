"""Something that listens like Docker and answers as a test wants it to."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from attrs import define, field, frozen


@frozen
class Request:
    """What was asked: the path without the version of the API."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@frozen
class Answer:
    """What to answer. A body in pieces is sent piece by piece, and the connection then closed."""

    status: int = 200
    body: Any = ""
    pieces: Iterable[bytes] | None = None
    headers: dict[str, str] = field(factory=dict)


def refusal(status: int, message: str) -> Answer:
    """An answer as Docker gives it when it refuses."""
    return Answer(status, {"message": message})


@define(eq=False)
class FakeEngine:
    """Answers requests on a UNIX socket with what ``answers`` says.

    :ivar answers: gives an answer, or None to break the connection off.
    :ivar requests: all that was asked but ``/_ping``.
    :ivar silence: for answers to wait for; is set at the end.
    """

    directory: Path
    answers: Callable[[Request], Answer | None] = field(default=lambda _request: Answer())
    api_version: str = "1.41"
    requests: list[Request] = field(factory=list)
    versions: list[str] = field(factory=list)
    silence: threading.Event = field(factory=threading.Event)
    _server: socketserver.BaseServer | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"unix://{self.directory}/engine.sock"

    def start(self) -> None:
        """Begin to listen."""
        self._server = _Server(str(self.directory / "engine.sock"), _handler(self))
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Listen no more; connections that are there go on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            (self.directory / "engine.sock").unlink()

    def answer(self, version: str, request: Request) -> Answer | None:
        """What this engine answers."""
        if request.path == "/_ping":
            return Answer(body="OK", headers={"Api-Version": self.api_version})
        self.requests.append(request)
        self.versions.append(version)
        return self.answers(request)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 50

    def handle_error(self, *_args: Any) -> None:
        """Clients that hang up are part of the tests."""


def _handler(engine: FakeEngine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            version, path = "", url.path
            if path.startswith("/v"):
                version, _, rest = path[2:].partition("/")
                path = f"/{rest}"
            query = dict(parse_qsl(url.query))
            asked = Request(self.command, path, query, dict(self.headers), body)
            answer = engine.answer(version, asked)
            if answer is None:
                self.close_connection = True
                return
            self._send(answer)

        do_GET = do_POST = do_DELETE = _do

        def _send(self, answer: Answer) -> None:
            body = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.pieces is None:
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())
                return
            self.close_connection = True
            # Said beforehand, or the client asks again on a connection that is about to be closed.
            self.send_header("Connection", "close")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in answer.pieces:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

        def address_string(self) -> str:
            return "test"

        def log_message(self, *_args: Any) -> None:
            pass

    return Handler
