"""When a start becomes known to those who listen."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field

WITHIN = 180.0
"""Seconds that anything may take before the measurement is given up."""

Reading = Callable[[bytes], tuple[str, str] | None]
"""From a line of a stream to the kind of event and the group of jobs it is about."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP to a socket of this machine."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        """See the base class."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))


@define(eq=False)
class Arrivals:
    """Follows a stream of events in a thread, and remembers when each came.

    :param reading: what a line means.
    """

    _reading: Reading
    _seen: dict[tuple[str, str], list[float]] = field(init=False, factory=dict)
    _news: threading.Condition = field(init=False, factory=threading.Condition)
    _over: bool = field(init=False, default=False)

    def follow(self, connection: http.client.HTTPConnection, target: str, accept: str) -> None:
        """Ask for the stream, and go on reading in the background until it ends."""
        connection.request("GET", target, headers={"Accept": accept})
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"GET {target} was answered with {answer.status}: {answer.read(500)!r}")
        threading.Thread(target=self._read, args=(answer,), name="arrivals", daemon=True).start()

    def wait(self, kind: str, group: str, count: int, within: float = WITHIN) -> list[float]:
        """When the events of this kind came, as soon as there are so many; by ``time.monotonic``."""
        with self._news:
            self._news.wait_for(lambda: self._over or self._count(kind, group) >= count, within)
            if self._count(kind, group) < count:
                raise RuntimeError(
                    f"{self._count(kind, group)} of {count} events {kind!r} came for {group} in {within:g} s"
                )
            return list(self._seen[kind, group])

    def _count(self, kind: str, group: str) -> int:
        return len(self._seen.get((kind, group), ()))

    def _read(self, answer: http.client.HTTPResponse) -> None:
        try:
            while line := answer.readline():
                now = time.monotonic()
                found = self._reading(line)
                if found is not None:
                    with self._news:
                        self._seen.setdefault(found, []).append(now)
                        self._news.notify_all()
        except (OSError, ValueError, http.client.HTTPException):
            pass  # the other side ended; whoever waits is told below
        with self._news:
            self._over = True
            self._news.notify_all()


def engine_events(socket_path: Path, reading: Reading) -> Arrivals:
    """Follow the events of a Docker engine, from a moment ago."""
    arrivals = Arrivals(reading)
    query = {"since": str(int(time.time())), "filters": json.dumps({"type": ["container"]})}
    target = f"/events?{urllib.parse.urlencode(query)}"
    arrivals.follow(UnixConnection(socket_path), target, "application/json")
    return arrivals


def label_reading(label: str, group: Callable[[str], str]) -> Reading:
    """Reads a Docker engine's events by a label of the containers.

    :param group: from the label's value to the group.
    """

    def reading(line: bytes) -> tuple[str, str] | None:
        event: dict[str, Any] = json.loads(line)
        value = event["Actor"]["Attributes"].get(label)
        return (event["Action"], group(value)) if value else None

    return reading
