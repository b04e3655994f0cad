"""Watching the engine's events: a thread that reads them, and connects again when they stop."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from email.utils import parsedate_to_datetime
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from flynnhost.containers.json_lines import json_lines
from flynnhost.containers.lanes import EngineReactor
from flynnhost.containers.session import EngineSessions
from flynnhost.containers.translate import explanation, nothing_special, translated
from flynnhost.errors import EngineUnavailable, FlynnHostError
from flynnhost.interfaces import IContainerListener

_UNTOLD = 1000
# What Docker mixes in among the labels.
_NOT_LABELS = frozenset({"image", "name", "exitCode", "signal", "execDuration", "oldName"})


@frozen
class Backoff:
    """How long to wait before connecting again: longer each time, up to a limit, and never in step.

    :param chance: gives a number from 0 to below 1.
    """

    first: float = 0.2
    factor: float = 2.0
    limit: float = 5.0
    chance: Callable[[], float] = random.random

    def delay(self, attempt: int) -> float:
        """How long to wait after this many failures in a row."""
        longest = min(self.limit, self.first * self.factor ** min(attempt, 50))
        return longest * (0.5 + self.chance() / 2)


@define(eq=False)
class EventsWatch:
    """One watch of the events of containers that have some labels; see ``IContainers.watch``.

    The thread knows nothing of listeners: it hands everything to the reactor, in order, and
    waits while there is too much that was not told yet.
    """

    log = Logger()

    _reactor: EngineReactor
    _sessions: EngineSessions
    _labels: Mapping[str, str]
    _listener: IContainerListener
    _backoff: Backoff
    _stop_within: float
    _forget: Callable[[EventsWatch], None]
    _closing: threading.Event = field(init=False, factory=threading.Event)
    _room: threading.Semaphore = field(init=False, factory=lambda: threading.Semaphore(_UNTOLD))
    _since: str = field(init=False, default="")
    _connected: bool | None = field(init=False, default=None)
    _thread_left: bool = field(init=False, default=False)
    _stopped: list[Deferred[None]] = field(init=False, factory=list)

    def start(self) -> None:
        """Begin. Call once."""
        threading.Thread(target=self._thd_run, name="docker-events", daemon=True).start()

    def stop(self) -> Deferred[None]:
        """See ``IWatch.stop``. Nothing is told after this call."""
        self._forget(self)
        self._closing.set()
        self._room.release()
        self._sessions.abort()
        stopped: Deferred[None] = Deferred()
        stopped.addTimeout(self._stop_within, self._reactor, lambda _result, _timeout: None)
        self._stopped.append(stopped)
        if self._thread_left:
            self._left()
        return stopped

    # --- in the thread ---

    def _thd_run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            begun = time.monotonic()
            try:
                with translated(nothing_special):
                    self._thd_follow()
                reason = "the stream of events ended"
            except FlynnHostError as e:
                reason = str(e)
            except Exception as e:
                reason = f"{type(e).__name__}: {e}"
            self._thd_tell(self._lost, reason)
            failures = 0 if time.monotonic() - begun > self._backoff.limit else failures + 1
            self._closing.wait(self._backoff.delay(failures))
        self._reactor.callFromThread(self._left)

    def _thd_follow(self) -> None:
        """Connect and hand over events until the stream ends."""
        session = self._sessions.thd_session()
        if not self._since:
            # Docker answers before it begins to listen: from the moment before, nothing is missed.
            self._since = self._thd_time_of_engine()
        filters = {"type": ["container"], "label": [f"{key}={value}" for key, value in self._labels.items()]}
        answer = session.get(
            f"{session.base_url}/v{session.api_version}/events",
            params={"since": self._since or None, "filters": json.dumps(filters)},
            stream=True,
            timeout=self._sessions.timeout,
        )
        with closing(answer):
            if answer.status_code != 200:
                raise EngineUnavailable(f"it tells no events: {explanation(answer.content)}")
            session.wait_for_ever()
            self._thd_tell(self._arrived)
            for event in json_lines(answer.raw.stream(decode_content=False)):
                self._thd_hand_over(event)

    def _thd_time_of_engine(self) -> str:
        session = self._sessions.thd_session()
        answer = session.get(f"{session.base_url}/_ping", timeout=self._sessions.timeout)
        answer.raise_for_status()
        date = answer.headers.get("Date")
        return str(int(parsedate_to_datetime(date).timestamp())) if date else ""

    def _thd_hand_over(self, event: Mapping[str, Any]) -> None:
        seconds, nanoseconds = divmod(int(event["timeNano"]), 1_000_000_000)
        self._since = f"{seconds}.{nanoseconds:09d}"
        action = str(event["Action"])
        if not action.startswith("exec_"):
            actor = event["Actor"]
            labels = {key: value for key, value in actor["Attributes"].items() if key not in _NOT_LABELS}
            self._thd_tell(self._changed, actor["ID"], action, labels)

    def _thd_tell(self, function: Callable[..., None], *args: Any) -> None:
        self._room.acquire()
        self._reactor.callFromThread(self._tell, function, args)

    # --- on the reactor ---

    def _tell(self, function: Callable[..., None], args: tuple[Any, ...]) -> None:
        self._room.release()
        if self._closing.is_set():
            return
        try:
            function(*args)
        except Exception:
            self.log.failure("A listener of the engine's events failed")

    def _arrived(self) -> None:
        self._connected = True
        self._listener.engine_connected()

    def _lost(self, reason: str) -> None:
        was_connected, self._connected = self._connected, False
        if was_connected is not False:
            self._listener.engine_lost(reason)

    def _changed(self, container_id: str, action: str, labels: Mapping[str, str]) -> None:
        self._listener.container_changed(container_id, action, labels)

    def _left(self) -> None:
        self._thread_left = True
        stopped, self._stopped = self._stopped, []
        for each in stopped:
            if not each.called:
                each.callback(None)
