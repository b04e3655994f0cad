"""Whether the container engine is there, for those who wait for it and those who ask."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from flynnhost.background import Background, Periodic
from flynnhost.errors import EngineRefused, EngineUnavailable
from flynnhost.gate import Gate
from flynnhost.interfaces import Check, EngineFacts, IContainers

PING_INTERVAL = 5.0
"""Seconds between two looks at an engine that seems well."""


@define(eq=False)
class EngineHealth:
    """Knows the engine by two signs: its events flow, and it answers pings.

    :ivar facts: what it has said of itself; None before it has.
    """

    log = Logger()

    _clock: IReactorTime
    _containers: IContainers
    _background: Background
    _events: str = field(init=False, default="not connected yet")
    _answers: str = field(init=False, default="")
    facts: EngineFacts | None = field(init=False, default=None)
    _asked: bool = field(init=False, default=False)
    _there: Gate = field(init=False, factory=Gate)
    _lost_at: float | None = field(init=False, default=None)
    _periodic: Periodic = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._periodic = Periodic(
            self._clock, PING_INTERVAL, self._ping, "looking after the container engine", self._background
        )

    @property
    def up(self) -> bool:
        """Whether the engine is there, as far as is known."""
        return not self._events and not self._answers

    @property
    def check(self) -> Check:
        """The same for a readiness report."""
        return Check("engine", self.up, self._events or self._answers or "answers, and its events flow")

    def start(self) -> None:
        """Begin to look."""
        self._periodic.start()

    def stop(self) -> None:
        """Look no more."""
        self._periodic.stop()

    def connected(self) -> None:
        """Events flow."""
        self._asked = False  # it may be another one now
        self._changed(events="", answers="")

    def lost(self, reason: str) -> None:
        """Events don't flow."""
        self._lost_at = self._clock.seconds()
        self._changed(events=reason or "its events don't flow", answers=self._answers)

    def lost_since(self, time: float) -> bool:
        """Whether its events broke off at this time of the clock or later."""
        return self._lost_at is not None and self._lost_at >= time

    def back(self) -> Deferred[None]:
        """Fires when the engine is there, at once if it is."""
        return self._there.wait()

    async def _ping(self) -> None:
        try:
            await self._containers.ping()
        except (EngineUnavailable, EngineRefused) as e:
            self._changed(events=self._events, answers=str(e))
        else:
            self._changed(events=self._events, answers="")
            if not self._asked:
                self._asked = True
                self._background.run(self._ask(), "asking the container engine what it is")

    async def _ask(self) -> None:
        try:
            self.facts = await self._containers.about()
        except (EngineUnavailable, EngineRefused) as e:
            self._asked = False
            self.log.info("The container engine does not say what it is: {reason}", reason=str(e))

    def _changed(self, events: str, answers: str) -> None:
        was_up = self.up
        self._events, self._answers = events, answers
        if self.up and not was_up:
            self.log.info("The container engine is there")
            self._there.open()
        elif was_up and not self.up:
            self._there.shut()
            self.log.error("The container engine is gone: {reason}", reason=self.check.detail)
