"""How long a reactor is held at a time."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

from attrs import asdict, define, field, frozen

LONG = 0.050
"""Seconds for which nothing may hold the reactor."""


@frozen
class Held:
    """How long a reactor was held, in seconds.

    :param event: the longest that one event took by CPU time: a connection that was read from or
        written to, or all calls that were due at a time.
    :param turn: the longest time between two polls by the clock on the wall; many events may be in it.
    :param collecting: the longest garbage collection, which is a part of some event.
    :param long: how many events took longer than ``LONG``.
    """

    event: float = 0.0
    turn: float = 0.0
    collecting: float = 0.0
    long: int = 0

    def and_then(self, other: Held) -> Held:
        """Both one after the other."""
        return Held(
            max(self.event, other.event),
            max(self.turn, other.turn),
            max(self.collecting, other.collecting),
            self.long + other.long,
        )


@define(eq=False)
class _Poller:
    """Stands before a reactor's poller."""

    _poller: Any
    _turns: Turns

    def poll(self, *arguments: Any) -> Any:
        self._turns.turn_ended()
        try:
            return self._poller.poll(*arguments)
        finally:
            self._turns.turn_begins()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._poller, name)


@define(eq=False)
class Turns:
    """Takes the time of what a reactor that uses epoll does."""

    _held: Held = field(init=False, factory=Held)
    _event: float = field(init=False, default=0.0)
    _turn: float = field(init=False, default=0.0)
    _collecting: float = field(init=False, default=0.0)
    _long: int = field(init=False, default=0)
    _began: float = field(init=False, factory=time.perf_counter)
    _collection_began: float = field(init=False, default=0.0)

    @classmethod
    def watch(cls, reactor: Any) -> Turns:
        """Watch a reactor, and the garbage collector."""
        turns = cls()
        reactor._poller = _Poller(reactor._poller, turns)
        reactor._doReadOrWrite = turns._timed(reactor._doReadOrWrite)
        reactor.runUntilCurrent = turns._timed(reactor.runUntilCurrent)
        gc.callbacks.append(turns._collected)
        return turns

    def taken(self) -> dict[str, Any]:
        """What was found since the last time this was called: the fields of ``Held``."""
        held = Held(self._event, self._turn, self._collecting, self._long)
        self._event = self._turn = self._collecting = 0.0
        self._long = 0
        return asdict(held)

    def turn_begins(self) -> None:
        """The reactor has something to do."""
        self._began = time.perf_counter()

    def turn_ended(self) -> None:
        """It has done all of it."""
        self._turn = max(self._turn, time.perf_counter() - self._began)

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            began = time.thread_time()
            try:
                return call(*arguments)
            finally:
                took = time.thread_time() - began
                self._event = max(self._event, took)
                self._long += took > LONG

        return timed

    def _collected(self, phase: str, info: Any) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._collection_began = now
        else:
            self._collecting = max(self._collecting, now - self._collection_began)
