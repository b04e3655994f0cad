"""Reads a stream of events in a thread, while the test does what brings them about."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable
from typing import Any

from attrs import frozen

from tests.support.waiting import wait_until


@frozen
class Event:
    """One event as it came: the fields of the stream."""

    id: str
    name: str
    text: str

    @property
    def data(self) -> Any:
        """What the data says."""
        return json.loads(self.text)

    @property
    def kind(self) -> str:
        """What happened to a job."""
        return str(self.data["event"])


class EventReader:
    """An open stream of events.

    :ivar events: what came until now.
    :ivar ended: whether the stream is over.
    :ivar broken: how it broke off; empty if it did not.
    """

    def __init__(self, port: int, path: str, last_id: str = "", address: str = "127.0.0.1") -> None:
        self.events: list[Event] = []
        self.ended = False
        self.broken = ""
        self._connection = http.client.HTTPConnection(address, port, timeout=60)
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        self._connection.request("GET", path, headers=headers)
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200, self._answer.read()
        assert self._answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert self._connection.sock is not None
        self._connection.sock.settimeout(None)
        self._socket = self._connection.sock
        self._thread = threading.Thread(target=self._thd_read, name=f"events of {path}", daemon=True)
        self._thread.start()

    def __enter__(self) -> EventReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def kinds(self, job_id: str) -> list[str]:
        """What happened to a job, in order."""
        return [event.kind for event in self.events if not event.name and event.data["job_id"] == job_id]

    def wait(self, condition: Callable[[Event], Any], what: str, within: float = 60.0) -> Event:
        """The first event that fulfils a condition, as soon as it came."""

        def look() -> Event | None:
            return next((event for event in list(self.events) if condition(event)), None)

        return wait_until(look, what, within)

    def wait_kind(self, job_id: str, kind: str, within: float = 60.0) -> Event:
        """The event of this kind of a job, as soon as it came."""
        return self.wait(
            lambda event: not event.name and (event.kind, event.data["job_id"]) == (kind, job_id),
            f"{kind} of {job_id}",
            within,
        )

    def wait_end(self, within: float = 20.0) -> None:
        """Wait until the stream is over."""
        wait_until(lambda: self.ended, "the end of the stream", within)

    def close(self) -> None:
        """Leave, whether the stream is over or not."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._connection.close()

    def _thd_read(self) -> None:
        fields: dict[str, str] = {}
        try:
            while line := self._answer.readline():
                text = line.decode().rstrip("\n")
                if text:
                    name, _, value = text.partition(":")
                    fields[name] = value.removeprefix(" ")
                elif "data" in fields:
                    self.events.append(Event(fields.get("id", ""), fields.get("event", ""), fields["data"]))
                    fields = {}
        except (OSError, http.client.HTTPException, ValueError) as e:
            self.broken = str(e) or type(e).__name__
        self.ended = True
