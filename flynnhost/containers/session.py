"""HTTP sessions with the engine: one for each thread, and a way to break them off from outside.

docker-py makes a connection pool for every URL and offers no way to wake up a thread that
waits for an engine that hangs. What is here keeps one connection for each thread and can
shut it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import requests
import urllib3
import urllib3.connection
from attrs import define, field
from docker import APIClient
from requests.structures import CaseInsensitiveDict

from flynnhost.containers.address import EngineAddress
from flynnhost.errors import EngineUnavailable

NEWEST_API_KNOWN = "1.44"


class _Sockets:
    """The open sockets of a session, to be found again by who wants to break them off."""

    def __init__(self) -> None:
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._shut = False

    def add(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.add(sock)
            if self._shut:
                raise ConnectionAbortedError("the connection is closed for good")

    def each(self) -> list[socket.socket]:
        with self._lock:
            return list(self._open)

    def shut(self) -> None:
        self._shut = True
        for sock in self.each():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class _Connection(urllib3.connection.HTTPConnection):
    def __init__(self, address: EngineAddress, sockets: _Sockets) -> None:
        super().__init__(address.host or "localhost", address.port or None)
        self._address = address
        self._sockets = sockets

    def connect(self) -> None:
        timeout: Any = self.timeout
        if self._address.path:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._sockets.add(self.sock)
            self.sock.settimeout(timeout)
            self.sock.connect(self._address.path)
        else:
            self.sock = socket.create_connection((self._address.host, self._address.port), timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._sockets.add(self.sock)


class _Pool(urllib3.HTTPConnectionPool):
    def __init__(self, address: EngineAddress, sockets: _Sockets) -> None:
        super().__init__(address.host or "localhost", address.port or None, maxsize=1)
        self._address = address
        self._sockets = sockets

    def _new_conn(self) -> _Connection:
        return _Connection(self._address, self._sockets)


class EngineSession(APIClient):  # type: ignore[misc]
    """A docker-py client for one thread, with one connection to the engine.

    :param timeout: how long each step of a request may take.
    """

    def __init__(self, address: EngineAddress, version: str, timeout: float) -> None:
        super().__init__(base_url=address.url, version=version, timeout=timeout)
        self._address = address
        self._sockets = _Sockets()
        self._pool = _Pool(address, self._sockets)

    def request(
        self,
        method: str,
        url: str,
        params: Mapping[str, Any] | None = None,
        data: str | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
        timeout: float | None = None,
        **_of_no_use: Any,
    ) -> requests.Response:
        """Do what the method of the base class does, but go straight to the engine.

        Proxies, redirects, cookies and the like cost more than the request itself, and an
        engine has none of them.
        """
        path = url.removeprefix(self.base_url)
        given = {key: value for key, value in (params or {}).items() if value is not None}
        raw = self._pool.urlopen(
            method,
            f"{path}?{urlencode(given)}" if given else path,
            body=data,
            headers=headers,
            timeout=urllib3.Timeout(connect=timeout, read=timeout),
            retries=False,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
        )
        answer = requests.Response()
        answer.status_code, answer.reason, answer.url = raw.status, raw.reason or "", url
        answer.headers, answer.raw = CaseInsensitiveDict(raw.headers), raw
        if not stream:
            # Reading all of it is what frees the connection.
            _ = answer.content
        return answer

    def close(self) -> None:
        """Close the connection. The next request makes a new one."""
        closed, self._pool = self._pool, _Pool(self._address, self._sockets)
        closed.close()

    def abort(self) -> None:
        """Shut the connection for good, so that a request under way fails at once. Any thread may call it."""
        self._sockets.shut()

    def wait_for_ever(self) -> None:
        """Let what is still to come of the answer take any time."""
        for sock in self._sockets.each():
            with contextlib.suppress(OSError):
                sock.settimeout(None)


@define(eq=False)
class EngineSessions:
    """The sessions of some threads with one engine.

    The version of the API is settled at the first use, because the engine may be down before,
    and again when the engine was replaced by one that does not know it.

    :param timeout: how long each step of a request may take.
    """

    address: EngineAddress
    timeout: float
    _version: str = ""
    _newest_known: bool = True
    _of_thread: threading.local = field(init=False, factory=threading.local)
    _all: weakref.WeakSet[EngineSession] = field(init=False, factory=weakref.WeakSet)
    _lock: threading.Lock = field(init=False, factory=threading.Lock)
    _closed: bool = field(init=False, default=False)

    def thd_session(self) -> EngineSession:
        """The session of the calling thread.

        :raises EngineUnavailable: after ``abort``.
        """
        session: EngineSession | None = getattr(self._of_thread, "session", None)
        if session is None or session.api_version != self._version:
            session = self._thd_open(self._version or self._thd_settle_version())
            self._of_thread.session = session
        if self._closed:
            raise EngineUnavailable("the connection is closed for good")
        return session

    def version_refused(self, *, too_old: bool) -> None:
        """Settle the version anew before the next request. Any thread may call it.

        :param too_old: the engine does not speak even the newest version known here.
        """
        self._newest_known = not too_old
        self._version = ""

    def abort(self) -> None:
        """Break off all requests under way and refuse new ones. Any thread may call it."""
        with self._lock:
            self._closed = True
            sessions = list(self._all)
        for session in sessions:
            session.abort()

    def _thd_open(self, version: str) -> EngineSession:
        session = EngineSession(self.address, version, self.timeout)
        with self._lock:
            self._all.add(session)
            if self._closed:
                session.abort()
        return session

    def _thd_settle_version(self) -> str:
        session = self._thd_open(NEWEST_API_KNOWN)
        try:
            answer = session.get(f"{session.base_url}/_ping", timeout=self.timeout)
            answer.raise_for_status()
        finally:
            session.close()
        offered = answer.headers.get("Api-Version") or NEWEST_API_KNOWN
        self._version = min(offered, NEWEST_API_KNOWN, key=_as_numbers) if self._newest_known else offered
        return self._version


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
