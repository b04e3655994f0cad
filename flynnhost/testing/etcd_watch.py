"""A watch of the etcd in memory: what becomes of it when connections do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from flynnhost.errors import EtcdUnavailable, FlynnHostError
from flynnhost.interfaces import IKeyListener
from flynnhost.keyvalues import KeyEvent, KeyRange


class _Server(Protocol):
    def open_stream(self, watch: FakeKeyWatch, connection: int) -> None: ...

    def close_stream(self, watch: FakeKeyWatch) -> None: ...


class _Client(Protocol):
    latency: float
    silence: float
    retry: float

    @property
    def etcd(self) -> _Server: ...

    @property
    def clock(self) -> IReactorTime: ...

    @property
    def cut_off(self) -> bool: ...

    def forget(self, watch: FakeKeyWatch) -> None: ...


@define(eq=False)
class FakeKeyWatch:
    """An ``IKeyWatch`` of a client of the etcd in memory.

    A connection that broke stays broken: what was on its way is lost, and told again on the next one.

    :ivar next_revision: the first one not told yet; 0 until that is known.
    :ivar connection: the number of the present one, if there is one.
    """

    _client: _Client
    keys: KeyRange
    next_revision: int
    _listener: IKeyListener
    connection: int = field(init=False, default=0)
    _broken: bool = field(init=False, default=False)
    _last_due: float = field(init=False, default=0.0)
    _timers: dict[IDelayedCall, None] = field(init=False, factory=dict)
    _watchdog: IDelayedCall | None = field(init=False, default=None)
    _lost: bool = field(init=False, default=False)
    _over: bool = field(init=False, default=False)

    # --- for the client -------------------------------------------------------

    def begin(self) -> None:
        """Connect. Call once."""
        self.connection += 1
        self._broken = False
        if self._client.cut_off:
            self.connection_broke()
        else:
            self._later(self._client.latency, self._client.etcd.open_stream, self, self.connection)

    def stop(self) -> Deferred[None]:
        """See ``IKeyWatch.stop``."""
        self._end()
        return succeed(None)

    def connection_broke(self) -> None:
        """Nothing comes through any more, which is noticed only after a silence."""
        self._broken = True
        self._client.etcd.close_stream(self)
        self.fell_silent()

    # --- for the server -------------------------------------------------------

    def fell_silent(self) -> None:
        """Nothing comes, for all that is known."""
        if self._watchdog is None and not self._over:
            self._watchdog = self._client.clock.callLater(self._client.silence, self._gave_up)

    def heard_again(self) -> None:
        """The server lives, unless the connection broke."""
        if self._watchdog is not None and not self._broken:
            self._watchdog.cancel()
            self._watchdog = None

    def stream_opened(self, revision: int) -> None:
        """The server has begun to tell changes."""
        self.heard_again()
        self._deliver(self._connected, revision)

    def stream_told(self, revision: int, events: Sequence[KeyEvent]) -> None:
        """There are changes, or none up to this revision."""
        self._deliver(self._told, revision, tuple(events))

    def stream_ended(self, error: FlynnHostError, after: float = 0.0) -> None:
        """The server tells nothing more.

        :param after: seconds until it says so.
        """
        self._last_due = max(self._last_due, self._client.clock.seconds()) + after
        self._deliver(self._ended, error)

    # --- on the way -----------------------------------------------------------

    def _deliver(self, what: Callable[..., None], *args: Any) -> None:
        clock = self._client.clock
        self._last_due = max(self._last_due, clock.seconds() + self._client.latency)
        self._later(self._last_due - clock.seconds(), self._arrived, self.connection, what, *args)

    def _arrived(self, connection: int, what: Callable[..., None], *args: Any) -> None:
        if connection == self.connection and not self._broken:
            what(*args)

    def _later(self, seconds: float, what: Callable[..., None], *args: Any) -> None:
        def run() -> None:
            del self._timers[timer]
            what(*args)

        if not self._over:
            timer = self._client.clock.callLater(seconds, run)
            self._timers[timer] = None

    # --- at the client --------------------------------------------------------

    def _connected(self, revision: int) -> None:
        self._lost = False
        if not self.next_revision:
            self.next_revision = revision + 1
        self._listener.watch_connected(revision)

    def _told(self, revision: int, events: tuple[KeyEvent, ...]) -> None:
        if events and revision < self.next_revision:
            return
        self.next_revision = max(self.next_revision, revision + 1)
        self._listener.keys_changed(revision, events)

    def _ended(self, error: FlynnHostError) -> None:
        if isinstance(error, EtcdUnavailable):
            self._again(error.reason)
        else:
            self._end()
            self._listener.watch_ended(error)

    def _gave_up(self) -> None:
        self._watchdog = None
        self._again(f"nothing came for {self._client.silence:g} s")

    def _again(self, reason: str) -> None:
        self._client.etcd.close_stream(self)
        self.connection += 1  # nothing of the old one counts any more
        self._later(self._client.retry, self.begin)
        if not self._lost:
            self._lost = True
            self._listener.watch_lost(reason)

    def _end(self) -> None:
        self._over = True
        self.connection += 1
        self._client.forget(self)
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        for timer in list(self._timers):
            timer.cancel()
        self._timers.clear()
